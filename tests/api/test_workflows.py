"""Workflows over HTTP: every write is an event first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest

from mesh_core.log import KafkaConfig, Position, connect
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.settings import Settings
from tests.api.conftest import served

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
WORKFLOW = str(UUID(int=7))


@pytest.fixture
def database_url(deployed_url: str) -> str:
    return deployed_url


@pytest.fixture
def publishing(settings: Settings) -> Iterator[httpx.Client]:
    """A client of an API with Kafka."""
    assert settings.kafka_bootstrap_servers
    with connect(KafkaConfig(settings.kafka_bootstrap_servers)).admin() as admin:
        admin.create_topic(MESH_TOPIC, 3)
    with served(settings) as client:
        yield client


def event_at(settings: Settings, position: Position) -> dict[str, Any]:
    """The event just below a position of one partition."""
    ((partition, offset),) = position.offsets.items()
    assert settings.kafka_bootstrap_servers
    with connect(KafkaConfig(settings.kafka_bootstrap_servers)).consumer() as consumer:
        consumer.assign({partition: offset - 1})
        while not (chunks := consumer.poll(1, 1.0)):
            pass
        value = chunks[0].values[0]
        assert value is not None
        event: dict[str, Any] = json.loads(value)
        return event


def test_a_workflow_is_generated_and_is_an_event(publishing: httpx.Client, settings: Settings) -> None:
    answer = publishing.post(
        "/v1/workflows",
        content=b'{"name": "order 7", "attributes": {"rate": 1.10}}',
        headers={"Content-Type": "application/json", "X-Correlation-ID": "c-1", "traceparent": TRACEPARENT},
    )
    assert answer.status_code == 201, answer.text
    workflow_id = answer.json()["workflow_id"]
    assert UUID(workflow_id).version == 7
    assert answer.headers["location"] == f"/v1/workflows/{workflow_id}"
    assert '"rate":1.10' in answer.text
    event = event_at(settings, Position.from_header(answer.headers["mesh-position"]))
    assert event["type"] == "mesh.workflow.created.v1"
    assert event["subject"] == workflow_id
    assert event["data"]["name"] == "order 7"
    assert event["correlationid"] == "c-1"
    assert event["traceparent"][:35] == TRACEPARENT[:35]
    assert 'mesh_log_produce_seconds_count{topic="mesh.events"}' in publishing.get("/metrics").text


def test_a_workflow_needs_no_body(publishing: httpx.Client) -> None:
    assert publishing.post("/v1/workflows").status_code == 201


def test_an_entry_registered_by_hand_is_an_event(publishing: httpx.Client, settings: Settings) -> None:
    answer = publishing.put(f"/v1/workflows/{WORKFLOW}/entries/legacy/invoice/2026%2F7%2Ca")
    assert answer.status_code == 200, answer.text
    event = event_at(settings, Position.from_header(answer.headers["mesh-position"]))
    assert event["type"] == "mesh.entry.registered.v1"
    assert event["data"] == {
        "workflow_id": WORKFLOW,
        "entry_service": "legacy",
        "entry_entity": "invoice",
        "entry_key": "2026/7,a",
    }


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 422),
        (b"[]", "application/json", 422),
        (b'{"nme": "x"}', "application/json", 422),
        (b'{"name": 7}', "application/json", 422),
        (b'{"name": ""}', "application/json", 422),
        (b'{"name": "\\ud800"}', "application/json", 422),
        (b'{"name": "\\u0000"}', "application/json", 422),
        (b'{"name": "\xff"}', "application/json", 422),
        (b'{"attributes": {"x": NaN}}', "application/json", 422),
        (b'{"attributes": {"x": 1e99999}}', "application/json", 422),
        (b'{"attributes": {"x": ' + b"[" * 5000 + b"]" * 5000 + b"}}", "application/json", 422),
        (b'{"name": "x"}', "text/plain", 415),
        (b'{"name": "' + b"x" * 300_000 + b'"}', "application/json", 413),
    ],
)
def test_bodies_that_cannot_be_kept_are_refused(
    client: httpx.Client, body: bytes, content_type: str, status: int
) -> None:
    answer = client.post("/v1/workflows", content=body, headers={"Content-Type": content_type})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["remedy"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("x/entries/sales/order/7", 422),
        (f"{WORKFLOW}/entries/Sales/order/7", 400),
        (f"{WORKFLOW}/entries/sales/order/" + "x" * 513, 400),
        (f"{WORKFLOW}/entries/sales/order/%00", 400),
    ],
)
def test_entries_that_cannot_be_are_refused(client: httpx.Client, path: str, status: int) -> None:
    answer = client.put(f"/v1/workflows/{path}")
    assert answer.status_code == status, answer.text


def test_a_key_may_have_a_line_break_and_a_slash(publishing: httpx.Client, settings: Settings) -> None:
    path = f"/v1/workflows/{WORKFLOW}/entries/sales/order"
    answer = publishing.put(f"{path}/a%0Ab/c%0A")
    assert answer.status_code == 200, answer.text
    event = event_at(settings, Position.from_header(answer.headers["mesh-position"]))
    assert event["data"]["entry_key"] == "a\nb/c\n"


def test_without_kafka_a_write_is_refused_and_reads_go_on(client: httpx.Client) -> None:
    answer = client.post("/v1/workflows")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert answer.json()["remedy"]
    assert client.get("/v1/views/orders").status_code == 200


def test_without_its_topic_a_write_says_so(settings: Settings) -> None:
    with served(settings) as client:
        answer = client.post("/v1/workflows")
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:flexmesh:problem:topic-missing")


def test_the_lookup_works_in_both_directions(client: httpx.Client, deployed_url: str) -> None:
    with psycopg.connect(deployed_url) as connection:
        connection.execute(
            "INSERT INTO data.mesh_workflow_entry__1 "
            "VALUES (%s, 'sales', 'order', '7', 'sales.events', now(), 0)",
            (WORKFLOW,),
        )
    found = client.get(f"/v1/workflows/{WORKFLOW}", params={"expand": "rows"})
    assert [entry["key"] for entry in found.json()["entries"]] == ["7"]
    assert "mesh.events" in json.loads(found.headers["mesh-position"])
    back = client.get("/v1/workflows", params={"service": "sales", "entity": "order", "key": "7"})
    assert [row["workflow_id"] for row in back.json()] == [WORKFLOW]
    assert client.get(f"/v1/workflows/{UUID(int=8)}").status_code == 404
    assert client.get("/v1/workflows/x").status_code == 400
    assert client.get(f"/v1/workflows/{WORKFLOW}?expand=all").status_code == 422
    assert client.get("/v1/workflows", params={"service": "sales"}).status_code == 422
    assert client.get("/v1/events", params={"workflow": WORKFLOW}).json() == []
