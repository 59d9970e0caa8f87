"""Events that come by HTTP: CloudEvents in every mode, checked, authorised, published once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import psycopg
import pytest
from cloudevents.core.bindings import http as official
from cloudevents.core.v1.event import CloudEvent

from mesh_core.log import Driver, KafkaConfig, Position, connect
from mesh_core.log.position import TopicPartition
from mesh_core.model.grants import grant, publishing
from mesh_core.settings import Settings
from mesh_core.store.grants import declare
from mesh_core.store.versions import raise_generation
from mesh_core.tokens import development_token
from tests.api.conftest import NO_KAFKA, served
from tests.emit.outboxes import in_the_log
from tests.support.services import Services, fresh_database

KEY = "a shared secret that is long enough for HS256"
STRUCTURED, BATCHED = "application/cloudevents+json", "application/cloudevents-batch+json"
TOPICS = ("sales.events", "logistics.events")


@pytest.fixture
def driver(clean_kafka: str) -> Driver:
    driver = connect(KafkaConfig(clean_kafka))
    with driver.admin() as admin:
        for topic in TOPICS:
            admin.create_topic(topic, 2)
    return driver


@pytest.fixture
def settings(clean_kafka: str, deployed_url: str) -> Settings:
    with psycopg.connect(deployed_url) as connection:
        declare(connection, [grant(publishing("sales"), "crew").model])
        raise_generation(connection)
    return Settings(
        database_url=deployed_url,
        kafka_bootstrap_servers=clean_kafka,
        catalog="tests.read.declarations",
        auth_key=KEY,
        auth_anonymous_role="admin",
    )


@pytest.fixture(scope="module")
def refusing(services: Services, _deployed: str) -> Iterator[tuple[httpx.Client, str]]:
    """A client and its database, for tests that publish nothing: one for all of the module. Kafka is away."""
    with fresh_database(services.database_url, like=_deployed) as url:
        settings = Settings(
            database_url=url,
            kafka_bootstrap_servers=NO_KAFKA,
            catalog="tests.read.declarations",
            auth_anonymous_role="admin",
        )
        with served(settings) as client:
            yield client, url


@pytest.fixture
def client(settings: Settings, driver: Driver) -> Iterator[httpx.Client]:
    with served(settings) as client:
        yield client


def event(number: int = 1, **more: Any) -> dict[str, Any]:
    data = {
        "order_id": number, "customer": "é", "total": 12.5, "express": True, "placed_at": "2026-01-31T00:00:00Z",
    }  # fmt: skip
    made = {
        "specversion": "1.0", "id": f"event-{number}", "source": "/shop", "type": "sales.order.placed.v1",
        "subject": str(number), "time": "2026-01-31T12:00:00Z", "data": data,
    }  # fmt: skip
    return {name: value for name, value in (made | more).items() if value is not ...}


def post(client: httpx.Client, body: Any, media_type: str = STRUCTURED, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post("/v1/events", content=content, headers={"Content-Type": media_type, **headers})


def token(settings: Settings, role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {development_token(settings, [role], {}, role, 5)}"}


def test_an_event_is_published_and_its_position_told(client: httpx.Client, driver: Driver) -> None:
    body = json.dumps(event(sequence=4, workflowid="0198c0de-0000-7000-8000-000000000001")).encode()
    body = body.replace(b"12.5", b"12.5000")
    answer = post(client, body, **{"X-Correlation-ID": "c-1"})
    assert answer.status_code == 202, answer.text
    (told,) = answer.json()["events"]
    position = Position.from_header(answer.headers["mesh-position"])
    assert position.offsets == {TopicPartition("sales.events", told["partition"]): told["offset"] + 1}
    assert (told["id"], told["source"], told["duplicate"]) == ("event-1", "/shop", False)
    (found,) = in_the_log(driver, "sales.events")
    assert str(found["data"]["total"]) == "12.5000"
    assert found["correlationid"] == "c-1"
    assert found.pop("traceparent")
    del found["correlationid"]
    expected = json.loads(body)
    assert found | {"data": {}} == expected | {"data": {}}


def test_all_three_modes_say_the_same(client: httpx.Client, driver: Driver) -> None:
    one, two, three = (event(id=f"event-{number}", tenantid="a b,é%") for number in (1, 2, 3))
    assert post(client, one).status_code == 202
    assert post(client, [two], BATCHED).status_code == 202
    headers = {
        f"ce-{name}": str(value).encode() for name, value in three.items() if name not in ("data", "tenantid")
    }
    binary = client.post(
        "/v1/events",
        content=json.dumps(three["data"]).encode(),
        headers={
            **headers,
            "CE-TenantId": b"a%20b,%C3%A9%25",
            "Content-Type": b"application/json; charset=UTF-8",
        },
    )
    assert binary.status_code == 202, binary.text
    found = in_the_log(driver, "sales.events")
    assert [each["id"] for each in found] == ["event-1", "event-2", "event-3"]
    assert {each["tenantid"] for each in found} == {"a b,é%"}
    assert [each["data"]["customer"] for each in found] == ["é"] * 3


@pytest.mark.parametrize("mode", [official.to_binary_event, official.to_structured_event])
def test_the_official_sdk_is_understood(client: httpx.Client, driver: Driver, mode: Any) -> None:
    made = event()
    sent = mode(
        CloudEvent(
            {name: value for name, value in made.items() if name not in ("data", "time")}
            | {
                "time": datetime(2026, 1, 31, 12, tzinfo=UTC),
                "datacontenttype": "application/json",
                "tenantid": "ü 1",
            },
            made["data"],
        )
    )
    answer = client.post("/v1/events", content=sent.body, headers=sent.headers)
    assert answer.status_code == 202, answer.text
    (found,) = in_the_log(driver, "sales.events")
    assert (found["tenantid"], found["data"]["total"]) == ("ü 1", Decimal("12.5"))
    assert found["time"].startswith("2026-01-31T12:00:00")


@pytest.mark.parametrize(
    ("body", "media_type", "status", "said"),
    [
        (event(), "application/json", 415, "attributes of an event are headers (ce-id"),
        (event(), "application/x-www-form-urlencoded", 415, "is no form of an event"),
        (event(), "", 415, "is no form of an event"),
        (event(), f"{STRUCTURED}; charset=utf-16", 415, "not in UTF-8"),
        (b"{", STRUCTURED, 422, "not a JSON object"),
        (b"", STRUCTURED, 422, "not a JSON object"),
        (b"\xff", STRUCTURED, 422, "not a JSON object"),
        ([event()], STRUCTURED, 422, "not a JSON object"),
        (event(), BATCHED, 422, "not a JSON array"),
        (event(specversion="0.3"), STRUCTURED, 422, "$.specversion"),
        (event(id=...), STRUCTURED, 422, "`id`"),
        (event(id=""), STRUCTURED, 422, "$.id"),
        (event(source=...), STRUCTURED, 422, "`source`"),
        (event(type=...), STRUCTURED, 422, "$.type is missing."),
        (event(type=7), STRUCTURED, 422, "$.type does not read"),
        ([event(), event(type=...)], BATCHED, 422, "event 1: $.type is missing."),
        (event(type="sales.order.shipped.v1"), STRUCTURED, 422, "no contract of sales.order.shipped.v1"),
        (event(type="sales.order.placed.v2"), STRUCTURED, 422, "only of other versions"),
        (event(type="mesh.grant.made.v1"), STRUCTURED, 422, "no contract"),
        (event(subject=...), STRUCTURED, 422, "$.subject"),
        (event(subject="k" * 513), STRUCTURED, 422, "$.subject"),
        (event(subject="é" * 400), STRUCTURED, 422, "800 bytes"),
        (event(time="yesterday"), STRUCTURED, 422, "$.time"),
        (event(time="2026-01-31T12:00:00"), STRUCTURED, 422, "$.time"),
        (event(Tenant="x"), STRUCTURED, 422, "$.Tenant"),
        (event(tenant={}), STRUCTURED, 422, "$.tenant"),
        (event(tenant=1.5), STRUCTURED, 422, "$.tenant"),
        (event(data_base64="e30="), STRUCTURED, 422, "both"),
        (event(data=..., data_base64="e30="), STRUCTURED, 422, "`data`"),
        (event(subject="7"), STRUCTURED, 422, "The record key is '7', but sales.order has the key '1'"),
        (event(data=event()["data"] | {"total": "1e30"}), STRUCTURED, 422, "sales.order.total"),
        (event(data={"order_id": "x"}), STRUCTURED, 422, "$.data"),
        (event(data=event()["data"] | {"total": "12,5"}), STRUCTURED, 422, "$.data.total"),
        (event(data=event()["data"] | {"customer": "\0"}), STRUCTURED, 422, "U+0000"),
        (event(data=event()["data"] | {"customer": "x" * 1_000_000}), STRUCTURED, 413, "1,000,"),
        (event(data=event()["data"] | {"customer": "x" * 1_100_000}), STRUCTURED, 413, "1100"),
        (event(data=event()["data"] | {"customer": "x" * 4_194_304}), STRUCTURED, 413, "4,194,304"),
    ],
)
def test_what_is_no_event_of_a_contract_is_refused(
    refusing: tuple[httpx.Client, str], body: Any, media_type: str, status: int, said: str
) -> None:
    client, url = refusing
    answer = post(client, body, media_type)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["detail"]
    assert answer.json()["remedy"]
    assert ("handling=lenient" in answer.json()["remedy"]) == (" of " in answer.json()["detail"][:5])
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM mesh.ingested").fetchone() == (0,), "nor claimed"


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"ce-id": "%ff"}, 422), ({"content-type": "text/xml"}, 415), ({"ce-specversion": "2.0"}, 422)],
)
def test_what_is_wrong_in_binary_mode_is_refused(
    refusing: tuple[httpx.Client, str], headers: dict[str, str], status: int
) -> None:
    client, _ = refusing
    made = {f"ce-{name}": str(value) for name, value in event().items() if name != "data"}
    given = made | {"content-type": "application/json"} | headers
    answer = client.post("/v1/events", content=json.dumps(event()["data"]).encode(), headers=given)
    assert answer.status_code == status, answer.text


def test_what_is_sent_again_is_published_once(
    client: httpx.Client, driver: Driver, settings: Settings
) -> None:
    first = post(client, event()).json()["events"][0]
    again = post(client, event()).json()["events"][0]
    assert again == first | {"duplicate": True}
    batch = post(client, [event(2), event(2), event(1)], BATCHED).json()["events"]
    assert batch[2] == again
    assert batch[0]["offset"] == batch[1]["offset"]
    assert [each["duplicate"] for each in batch] == [False, True, True]
    assert post(client, event(source="/other")).json()["events"][0]["duplicate"] is False
    # At once, by two processes.
    with served(settings) as other, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: post((client, other)[n % 2], event(100 + n // 4)), range(40)))
    assert [answer.status_code for answer in answers] == [202] * 40
    found = in_the_log(driver, "sales.events")
    assert sorted(each["id"] for each in found if each["source"] == "/shop") == sorted(
        ["event-1", "event-2", *(f"event-{n}" for n in range(100, 110))]
    )


def test_a_claim_of_a_process_that_died_is_taken_over(
    client: httpx.Client, driver: Driver, deployed_url: str
) -> None:
    post(client, event())
    with psycopg.connect(deployed_url, autocommit=True) as connection:
        connection.execute("UPDATE mesh.ingested SET topic = NULL")
        waiting = post(client, event())
        assert (waiting.status_code, waiting.json()["type"]) == (503, "urn:flexmesh:problem:being-published")
        assert waiting.headers["retry-after"]
        connection.execute("UPDATE mesh.ingested SET claimed_at = now() - interval '2 min'")
    assert post(client, event()).json()["events"][0]["duplicate"] is False
    assert len(in_the_log(driver, "sales.events")) == 2


def test_what_waits_for_another_process_keeps_nobody_else_waiting(
    client: httpx.Client, driver: Driver, deployed_url: str
) -> None:
    post(client, event())
    with psycopg.connect(deployed_url, autocommit=True) as connection:
        connection.execute("UPDATE mesh.ingested SET topic = NULL")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, client, event())
        while not waiting.running():
            pass
        for number in range(2, 5):
            assert post(client, event(number)).status_code == 202
        assert not waiting.done()
        assert waiting.result().status_code == 503


def test_events_of_a_batch_keep_their_order(client: httpx.Client, driver: Driver) -> None:
    batch = [event(id=f"{number}") for number in range(40)]
    assert post(client, batch, BATCHED).status_code == 202
    assert [each["id"] for each in in_the_log(driver, "sales.events")] == [each["id"] for each in batch]


def test_of_a_batch_all_or_those_that_can_be_are_published(client: httpx.Client, driver: Driver) -> None:
    batch = [event(1), event(2, data={}), event(3), event(4, type="sales.order.lost.v1")]
    strict = post(client, batch, BATCHED)
    assert strict.status_code == 422
    assert [(each["index"], each["reason"]) for each in strict.json()["errors"]] == [
        (1, "missing_field"),
        (3, "unknown_type"),
    ]
    assert [each["id"] for each in strict.json()["errors"]] == ["event-2", "event-4"]
    assert "2 of 4 events" in strict.json()["detail"]
    assert "handling=lenient publishes the others" in strict.json()["remedy"]
    for alone in (post(client, batch[1]), post(client, batch[1:2], BATCHED)):
        assert alone.json()["detail"].startswith("Object missing required field")
        assert "lenient" not in alone.json()["remedy"], "there are no others"
    assert in_the_log(driver, "sales.events") == []
    lenient = post(client, batch, BATCHED, Prefer="wait=1, handling=lenient")
    assert lenient.status_code == 202
    assert lenient.headers["preference-applied"] == "handling=lenient"
    assert [each["status"] for each in lenient.json()["events"]] == [202, 422, 202, 422]
    assert sorted(each["id"] for each in in_the_log(driver, "sales.events")) == ["event-1", "event-3"]
    assert post(client, batch[1], Prefer="handling=lenient").status_code == 422
    assert post(client, [], BATCHED).json() == {"position": {}, "events": []}


def test_a_service_publishes_its_own_events_alone(
    client: httpx.Client, driver: Driver, settings: Settings, deployed_url: str
) -> None:
    crew, stranger = token(settings, "crew"), token(settings, "stranger")
    foreign = event(
        type="logistics.shipment.booked.v1",
        data={"shipment_id": "0198c0de-0000-7000-8000-000000000001", "order_id": 1},
    )
    assert post(client, event(), **crew).status_code == 202
    assert post(client, foreign, **crew).status_code == 403
    assert post(client, [event(2), foreign], BATCHED, **crew).status_code == 403
    assert post(client, event(2), **stranger).status_code == 403
    refused = post(client, event(2, data={}), **stranger)
    assert (refused.status_code, "errors" in refused.json()) == (403, False)
    assert post(client, event(2), Authorization="Bearer x").status_code == 401
    with psycopg.connect(deployed_url) as connection:
        connection.execute("DELETE FROM mesh.declared_grants")
        raise_generation(connection)
    assert post(client, event(3), **crew).status_code == 403  # at once, though versions are remembered
    assert [each["id"] for each in in_the_log(driver, "sales.events")] == ["event-1"]
    assert in_the_log(driver, "logistics.events") == []
    with psycopg.connect(deployed_url) as connection:
        assert connection.execute("SELECT count(*) FROM mesh.ingested").fetchone() == (1,)


def test_without_kafka_topic_or_postgres_nothing_is_accepted(settings: Settings, clean_kafka: str) -> None:
    with served(settings) as client:
        missing = post(client, event())
        assert (missing.status_code, missing.json()["type"]) == (503, "urn:flexmesh:problem:topic-missing")
        with connect(KafkaConfig(clean_kafka)).admin() as admin:
            admin.create_topic("sales.events", 1)
        assert post(client, event()).status_code == 202
    with served(settings.model_copy(update={"kafka_bootstrap_servers": NO_KAFKA})) as client:
        away = post(client, event(2))
        assert (away.status_code, away.headers["retry-after"]) == (503, "1")
    with psycopg.connect(
        settings.database_url.get_secret_value() if settings.database_url else ""
    ) as connection:
        connection.execute("DROP TABLE mesh.ingested")
    with served(settings) as client:
        assert post(client, event(3)).json()["type"] == "urn:flexmesh:problem:not-migrated"


def test_more_than_may_wait_are_sent_away(settings: Settings, driver: Driver) -> None:
    few = settings.model_copy(update={"ingest_queue_max": 2})
    with served(few) as client, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: post(client, event(n)), range(64)))
        refused = [n for n, answer in enumerate(answers) if answer.status_code == 503]
        assert refused
        assert {answers[n].json()["type"] for n in refused} == {"urn:flexmesh:problem:too-many-events"}
        assert all(answers[n].headers["retry-after"] for n in refused)
        for n in refused:
            assert post(client, event(n)).status_code == 202
    assert len(in_the_log(driver, "sales.events")) == 64


def test_what_is_older_than_the_window_is_forgotten(
    settings: Settings, driver: Driver, deployed_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.ingesting._FORGET", 0.0)
    with served(settings) as client:
        post(client, event())
        with psycopg.connect(deployed_url, autocommit=True) as connection:
            connection.execute("UPDATE mesh.ingested SET claimed_at = now() - interval '2 h'")
        post(client, event(2))
    with psycopg.connect(deployed_url) as connection:
        assert connection.execute("SELECT count(*) FROM mesh.ingested").fetchone() == (1,)
