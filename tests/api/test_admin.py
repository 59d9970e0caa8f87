"""What operators see, and what clients see when something is down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from urllib.parse import quote

import httpx
import jsonschema_rs
import psycopg
import pytest
import structlog

from mesh_core.cli import serve
from mesh_core.errors import UsageError
from mesh_core.settings import ROOT, Settings
from tests.api.conftest import NO_KAFKA, served
from tests.read.declarations import insert, order


def test_ready_until_something_is_halted(client: httpx.Client, deployed_url: str) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "reasons": []})
    with psycopg.connect(deployed_url) as connection:
        connection.execute("UPDATE mesh.checkpoints SET halted_reason = 'cut' WHERE topic = 'sales.events'")
    halted = client.get("/readyz")
    assert halted.status_code == 503
    assert halted.json()["reasons"] == ["Halted: sales.events[0]: cut", "Halted: sales.events[1]: cut"]


def test_without_schema_or_database_reads_are_problems(database_url: str) -> None:
    for url, kind in ((database_url, "not-migrated"), ("postgresql://x@127.0.0.1:1/x", "read-unavailable")):
        with served(
            Settings(database_url=url, kafka_bootstrap_servers=NO_KAFKA, auth_anonymous_role="admin")
        ) as client:
            answer = client.get("/v1/views/orders/7")
            assert answer.status_code == 503
            assert answer.json()["type"] == f"urn:flexmesh:problem:{kind}"
            assert client.get("/readyz").status_code == 503
            assert client.get("/livez").status_code == 200


def test_a_correlation_id_is_echoed_or_made(client: httpx.Client) -> None:
    assert client.get("/livez", headers={"X-Correlation-ID": "abc"}).headers["x-correlation-id"] == "abc"
    assert client.get("/livez", headers={"X-Request-ID": "def"}).headers["x-correlation-id"] == "def"
    made = client.get("/livez", headers={"X-Correlation-ID": "x" * 200}).headers["x-correlation-id"]
    assert len(made) == 36
    assert client.get("/nowhere").headers["x-correlation-id"]


def test_requests_are_counted_by_route(client: httpx.Client) -> None:
    client.get("/v1/views/orders/41")
    client.get("/nowhere/41")
    text = client.get("/metrics").text
    assert 'mesh_api_requests_total{method="GET",route="/v1/views/{view}/{key:path}",status="404"}' in text
    assert 'route="unmatched",status="404"' in text
    assert "mesh_projector" not in text
    assert "41" not in text.split("mesh_api_requests_total{")[1].split("}")[0]


def test_an_error_that_nobody_foresaw_leaks_nothing(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("secret")

    monkeypatch.setattr("mesh_core.read.list_rows", broken)
    with structlog.testing.capture_logs() as lines:
        answer = client.get("/v1/views/orders")
    assert answer.status_code == 500
    assert answer.headers["x-correlation-id"]
    assert answer.json()["type"] == "urn:flexmesh:problem:internal-error"
    assert "secret" not in answer.text
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["request failed"]


def test_openapi_documents_each_deployed_view(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    row = document["paths"]["/v1/views/orders/{key}"]["get"]
    assert row["operationId"] == "get_orders"
    properties = row["responses"]["200"]["content"]["application/json"]["schema"]["properties"]
    assert properties["order_id"] == {"type": "integer", "format": "int64", "examples": [42]}
    assert properties["due"] == {"type": ["string", "null"], "format": "date", "examples": ["1996-07-04"]}
    operations = [
        operation["operationId"] for path in document["paths"].values() for operation in path.values()
    ]
    assert len(operations) == len(set(operations))
    assert {"list_views", "get_row", "create_workflow", "list_lines"} <= set(operations)


def test_examples_are_what_they_are_examples_of(client: httpx.Client, deployed_url: str) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    insert(deployed_url, "orders__1", order(42, customer="some text"))
    for view in ("orders", "lines", "shipment_orders"):
        page, row = paths[f"/v1/views/{view}"]["get"], paths[f"/v1/views/{view}/{{key}}"]["get"]
        schema = row["responses"]["200"]["content"]["application/json"]["schema"]
        sample = {name: column["examples"][0] for name, column in schema["properties"].items()}
        jsonschema_rs.validator_for(schema, validate_formats=True).validate(sample)
        for parameter in page["parameters"]:
            for example in parameter["schema"].get("examples", ()):
                answer = client.get(f"/v1/views/{view}", params={parameter["name"]: example})
                assert answer.status_code == 200, (parameter["name"], example, answer.text)
        (key,) = [parameter for parameter in row["parameters"] if parameter["name"] == "key"]
        answer = client.get(f"/v1/views/{view}/{quote(key['schema']['examples'][0], safe='')}")
        assert answer.status_code == (200 if view == "orders" else 404), answer.text
        assert answer.status_code == 200 or answer.json()["type"].endswith(":row-not-found")


def test_beyond_loopback_is_listened_on_where_tokens_are_verified_only() -> None:
    anywhere = "0.0.0.0"  # noqa: S104
    for given, said in (
        ({}, "No token can be verified"),
        ({"auth_anonymous_role": "admin"}, "may do everything"),
    ):
        with pytest.raises(UsageError, match=f"{said}.*0\\.0\\.0\\.0"):
            serve.check_reach(Settings(**given), anywhere)
        serve.check_reach(Settings(**given), "127.0.0.1")
    serve.check_reach(Settings(auth_key="x" * 32, auth_anonymous_role="anonymous"), anywhere)
    taken = serve.bind("127.0.0.1", 0)
    with pytest.raises(serve.PortTaken, match="MESH_API_PORT"):
        serve.bind("127.0.0.1", taken.getsockname()[1])
    taken.close()


def test_the_command_serves_and_stops_on_sigterm(deployed_url: str) -> None:
    environment = os.environ | {
        "MESH_DATABASE_URL": deployed_url,
        "MESH_KAFKA_BOOTSTRAP_SERVERS": NO_KAFKA,
        "MESH_CATALOG": "tests.read.declarations",
        "MESH_LOG_FORMAT": "json",
    }
    code = (
        "import typer; from mesh_core.cli import serve; app = typer.Typer(); serve.register(app);"
        "app.callback()(lambda: None); app()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, "api", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    ) as process:
        assert process.stderr
        url = process.stderr.readline().split()[1]
        assert httpx.get(f"{url}/readyz", timeout=20).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        for line in process.stderr.read().splitlines():
            json.loads(line)
