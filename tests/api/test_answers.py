"""Forms of answers: what a client accepts, what it has already, and what pages of other origins may read."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from decimal import Decimal

import httpx
import psycopg
import pytest

from mesh_core.settings import Settings
from tests.api.conftest import NO_KAFKA, served
from tests.read.declarations import insert, order

ROWS = "/v1/views/orders"


@pytest.fixture
def filled(client: httpx.Client, deployed_url: str) -> httpx.Client:
    odd = order(4, customer='a "b", c\r\nd', extra={"a": [1, "x"]}, express=True)
    insert(
        deployed_url, "orders__1", *[order(n, customer=f"c{n}") for n in range(4)], odd, order(5, customer="")
    )
    return client


def test_all_rows_as_lines_of_json(filled: httpx.Client) -> None:
    answer = filled.get(ROWS, params={"order": "order_id.desc"}, headers={"Accept": "application/x-ndjson"})
    assert answer.headers["content-type"] == "application/x-ndjson; charset=utf-8"
    assert json.loads(answer.headers["mesh-position"])["sales.events"] == {"0": 0, "1": 0}
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert [row["order_id"] for row in rows] == [5, 4, 3, 2, 1, 0], "all, though a page has two"
    assert rows[1] == filled.get(f"{ROWS}/4").json()


def test_all_rows_as_csv(filled: httpx.Client) -> None:
    select = "order_id,who:customer,total,express,placed_at,weight,extra"
    answer = filled.get(ROWS, params={"select": select, "order_id": "gte.4"}, headers={"Accept": "text/csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert list(csv.reader(io.StringIO(answer.text, newline=""))) == [
        ["order_id", "who", "total", "express", "placed_at", "weight", "extra"],
        ["4", 'a "b", c\r\nd', "440.0000", "true", "1996-07-04T00:00:00+00:00", "", '{"a": [1, "x"]}'],
        ["5", "", "440.0000", "false", "1996-07-04T00:00:00+00:00", "", ""],
    ]
    assert answer.text.splitlines()[-1] == '5,"",440.0000,false,1996-07-04T00:00:00+00:00,,', (
        "a text is no null"
    )
    assert filled.get(ROWS, params={"limit": "3"}, headers={"Accept": "text/csv"}).text.count("\r\n") == 4
    for name, value in (("count", "exact"), ("cursor", "x")):
        refused = filled.get(ROWS, params={name: value}, headers={"Accept": "text/csv"})
        assert (refused.status_code, refused.json()["type"]) == (
            400,
            "urn:flexmesh:problem:invalid-parameter",
        )


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("*/*", "application/json"),
        ("text/html, application/*;q=0.8, */*;q=0.1", "application/json"),
        ("text/*", "text/csv; charset=utf-8"),
        ("application/json;q=0.5, text/csv", "text/csv; charset=utf-8"),
        ("application/json;q=0, */*", "application/x-ndjson; charset=utf-8"),
        ("application/xml", "application/problem+json"),
        ("application/json;q=x", "application/problem+json"),
        ("", "application/json"),
    ],
)
def test_the_form_that_is_liked_best(filled: httpx.Client, accept: str, form: str) -> None:
    answer = filled.get(ROWS, headers={"Accept": accept})
    assert answer.headers["content-type"] == form
    assert answer.status_code == (406 if "problem" in form else 200)
    assert answer.status_code == 200 or "application/json" in answer.json()["remedy"]


def test_what_a_client_has_is_not_sent_again(filled: httpx.Client, deployed_url: str) -> None:
    for path in (ROWS, f"{ROWS}/1", f"{ROWS}?select=order_id"):
        answer = filled.get(path)
        tag = answer.headers["etag"]
        assert answer.headers["cache-control"] == "private, no-cache"
        assert "Authorization" in answer.headers["vary"]
        for given in (tag, f'"x", W/{tag}', "*"):
            again = filled.get(path, headers={"If-None-Match": given})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
            assert again.headers["mesh-position"] == answer.headers["mesh-position"]
        assert filled.get(path, headers={"If-None-Match": '"x"'}).status_code == 200
    tag = filled.get(f"{ROWS}/1").headers["etag"]
    with psycopg.connect(deployed_url) as connection:
        connection.execute("UPDATE data.orders__1 SET total = 1 WHERE order_id = 1")
    changed = filled.get(f"{ROWS}/1", headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


def test_large_answers_are_compressed(filled: httpx.Client, deployed_url: str) -> None:
    insert(deployed_url, "orders__1", *[order(n) for n in range(100, 150)])
    url = f"{ROWS}?limit=50"
    with filled.stream("GET", url, headers={"Accept-Encoding": "gzip"}) as answer:
        raw = b"".join(answer.iter_raw())
    plain = filled.get(url, headers={"Accept-Encoding": "identity"})
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == plain.content
    assert answer.headers["etag"] != plain.headers["etag"], "a strong tag is of the bytes"
    assert "content-encoding" not in filled.get(f"{ROWS}/1").headers, "too small"
    for form in ("text/csv", "application/x-ndjson"):
        zipped = filled.get(url, headers={"Accept": form, "Accept-Encoding": "gzip"})
        assert zipped.headers["content-encoding"] == "gzip"
        assert zipped.text == filled.get(url, headers={"Accept": form, "Accept-Encoding": "identity"}).text


def test_heads_are_those_of_the_answer(filled: httpx.Client) -> None:
    for path in (ROWS, f"{ROWS}/1", "/v1/views", "/livez", "/openapi.json", f"{ROWS}/99"):
        got, head = filled.get(path), filled.head(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        for name in ("content-type", "etag", "link", "mesh-position", "content-length"):
            assert head.headers.get(name) == got.headers.get(name), (path, name)
    assert filled.head(ROWS, headers={"Accept": "text/csv"}).status_code == 200
    assert filled.get(ROWS).status_code == 200, "the connection is in order"


def test_links_lead_both_ways_and_ranges_count(filled: httpx.Client) -> None:
    first = filled.get(ROWS, params={"order": "customer.desc", "count": "exact"})
    assert first.headers["content-range"] == "0-1/6"
    assert set(first.links) == {"next"}
    second = filled.get(first.links["next"]["url"])
    assert second.headers["content-range"] == "*/6"
    assert set(second.links) == {"prev", "next"}
    assert filled.get(second.links["prev"]["url"]).json() == first.json()
    last = filled.get(second.links["next"]["url"])
    assert set(last.links) == {"prev"}
    assert [row["customer"] for page in (first, second, last) for row in page.json()] == [
        "c3",
        "c2",
        "c1",
        "c0",
        'a "b", c\r\nd',
        "",
    ]
    none = filled.get(ROWS, params={"order_id": "gt.99", "count": "exact"})
    assert (none.json(), none.headers["content-range"], none.links) == ([], "*/0", {})
    assert "content-range" not in filled.get(ROWS).headers


def test_one_row_takes_select_alone(filled: httpx.Client) -> None:
    answer = filled.get(f"{ROWS}/4", params={"select": "order_id,first:extra->a->0,text:extra->a->>1"})
    assert answer.json(parse_float=Decimal) == {"order_id": 4, "first": 1, "text": "x"}
    for name in ("limit", "customer", "order"):
        assert filled.get(f"{ROWS}/4", params={name: "1"}).json()["type"].endswith("unknown-parameter")


def test_how_long_it_took_is_told(filled: httpx.Client) -> None:
    parts = dict(part.split(";dur=") for part in filled.get(ROWS).headers["server-timing"].split(", "))
    assert 0 < float(parts["db"]) <= float(parts["total"]) < 30_000
    assert (
        float(dict(p.split(";dur=") for p in filled.get("/livez").headers["server-timing"].split(", "))["db"])
        == 0
    )


@pytest.fixture
def shared(deployed_url: str) -> Iterator[httpx.Client]:
    settings = Settings(
        auth_anonymous_role="admin",
        database_url=deployed_url,
        kafka_bootstrap_servers=NO_KAFKA,
        catalog="tests.read.declarations",
        cors_origins="https://app.example, https://other.example",
        database_pool_size=2,
    )
    with served(settings) as client:
        yield client


def test_pages_of_other_origins_read_what_they_may(client: httpx.Client, shared: httpx.Client) -> None:
    origin = {"Origin": "https://app.example"}
    answer = shared.get("/v1/views", headers=origin)
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert {"Mesh-Position", "Link", "ETag"} <= set(
        answer.headers["access-control-expose-headers"].split(", ")
    )
    asked = origin | {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    assert shared.options("/v1/query", headers=asked).status_code == 200
    assert (
        "access-control-allow-origin"
        not in shared.get("/v1/views", headers={"Origin": "https://evil"}).headers
    )
    assert "access-control-allow-origin" not in client.get("/v1/views", headers=origin).headers


def test_streams_leave_connections_to_others(shared: httpx.Client, deployed_url: str) -> None:
    with psycopg.connect(deployed_url) as connection:
        connection.execute(
            "INSERT INTO data.lines__1 SELECT n::text, repeat('x', 1000), n FROM generate_series(1, 60000) AS n"
        )
    url, form = "/v1/views/lines", {"Accept": "application/x-ndjson", "Accept-Encoding": "identity"}
    with shared.stream("GET", url, headers=form) as stream:
        lines = stream.iter_lines()
        assert json.loads(next(lines))["order_code"] == "1"
        assert shared.get(url).status_code == 200
        refused = httpx.get(f"{shared.base_url}{url}", headers=form, timeout=30)
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:flexmesh:problem:read-unavailable")
    # The client went away in the midst of it; its connection is given back.
    assert shared.get(url, headers=form | {"Accept": "text/csv"}, params={"limit": "5"}).status_code == 200
