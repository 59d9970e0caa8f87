"""Hundreds of payloads in every place that a request has: nothing breaks, and nothing of them is ever part of SQL."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest

from mesh_core.model.grants import TIMELINE, WORKFLOWS, column, grant
from mesh_core.settings import Settings
from mesh_core.store.grants import declare
from mesh_core.store.versions import raise_generation
from tests.api.conftest import NO_KAFKA, served
from tests.read.declarations import insert, lines, order, orders

MARK = "zzmark"
HIDDEN = "hidden-from-clerks"
ENDINGS = [
    "",
    "--",
    "/*",
    "#",
    ";",
    "\\",
    "'",
    '"',
    "`",
    ")",
    "')",
    '")',
    "';--",
    "%",
    "%s",
    "%(a)s",
    "{0}",
    "$1",
    "\x1a",
]
BODIES = [
    MARK,
    f"' OR '1'='1' -- {MARK}",
    f'" OR "1"="1 {MARK}',
    f"1; DROP TABLE data.orders__1; -- {MARK}",
    f"1) UNION SELECT usename FROM pg_user WHERE ('{MARK}'='{MARK}",
    f"$$;SELECT pg_sleep(9);$$ {MARK}",
    f"E'\\x27' {MARK}",
    f"{MARK}::regclass",
    f"(SELECT version()) {MARK}",
    f'{MARK} COLLATE "x"',
    f"‘{MARK}’ OR 1=1",
    f"{MARK},order_id.desc) FROM pg_user",
    f'orders__1" WHERE true; {MARK}',
    f"{MARK}\r\nSet-Cookie: a=b",
    f"<script>{MARK}</script>",
    f"../../{MARK}",
]
PAYLOADS = [body + ending for body, ending in product(BODIES, ENDINGS)]
COLUMNS = ("order_id", "customer", "total", "weight", "express", "placed_at", "due", "reference", "extra")


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The text of every statement that the API sends from now on."""
    seen: list[bytes] = []
    for kind in (psycopg.AsyncCursor, psycopg.AsyncServerCursor):
        plain = kind.execute

        async def execute(self: Any, query: Any, *args: Any, plain: Any = plain, **more: Any) -> Any:
            seen.append(query if isinstance(query, bytes) else str(query).encode())
            return await plain(self, query, *args, **more)

        monkeypatch.setattr(kind, "execute", execute)
    return seen


@pytest.fixture(params=["admin", "clerk"])
def role(request: pytest.FixtureRequest) -> str:
    """Who asks: one who may see everything, and one who may see some rows only."""
    return str(request.param)


@pytest.fixture
def filled(deployed_url: str, role: str) -> Iterator[httpx.Client]:
    rows = [order(n, customer="visible", extra={"a": "b"}) for n in range(3)]
    hidden = order(3, customer=HIDDEN, extra={"a": HIDDEN})
    insert(deployed_url, "orders__1", *rows, hidden)
    with psycopg.connect(deployed_url) as connection:
        granted = [
            grant(orders, "clerk", where=column("customer") == "visible"),
            grant(lines, "clerk"),
            *(grant(to, "clerk") for to in (WORKFLOWS, TIMELINE)),
        ]
        declare(connection, [each.model for each in granted])
        raise_generation(connection)
    settings = Settings(
        database_url=deployed_url,
        kafka_bootstrap_servers=NO_KAFKA,
        catalog="tests.read.declarations",
        page_limit_default=10,
        auth_anonymous_role=role,
    )
    with served(settings) as client:
        assert (HIDDEN in client.get("/v1/views/orders").text) == (role == "admin")
        yield client
    with psycopg.connect(deployed_url) as connection:
        assert connection.execute("SELECT count(*) FROM data.orders__1").fetchone() == (4,)


def requests(payload: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(method, path, rest) of a request for each place that the payload can be in."""
    rows, quoted = "/v1/views/orders", quote(payload, safe="")
    column = COLUMNS[len(payload) % len(COLUMNS)]
    for operator in ("eq", "neq", "gt", "like", "ilike", "is", "isdistinct", "cs", payload):
        yield "GET", rows, {"params": {column: f"{operator}.{payload}"}}
    yield "GET", rows, {"params": {column: payload}}
    yield "GET", rows, {"params": {"customer": f"not.like.{payload}"}}
    yield "GET", rows, {"params": {"customer": f'in.(a,"{payload}",{payload})'}}
    yield "GET", rows, {"params": {"or": f"(customer.eq.{payload},customer.like.{payload})"}}
    escaped = payload.replace("\\", "\\\\").replace('"', '\\"')
    yield "GET", rows, {"params": {"or": f'(customer.eq."{escaped}",not.and(customer.neq."{escaped}"))'}}
    yield "GET", rows, {"params": {f"extra->>{payload}": "eq.x"}}
    yield "GET", rows, {"params": {f'extra->"{escaped}"->>"{escaped}"': "neq.x"}}
    yield "GET", rows, {"params": {payload: "eq.1"}}
    for name in ("select", "order", "limit", "cursor", "count", "and", "not.or"):
        yield "GET", rows, {"params": {name: payload}}
    yield "GET", rows, {"params": {"select": f'a:extra->"{escaped}",{payload}:customer'}}
    yield "GET", rows, {"params": {"order": f'extra->>"{escaped}".desc.nullslast'}}
    yield "GET", rows, {"params": {"customer": f"eq.{payload}"}, "headers": {"Accept": "text/csv"}}
    yield "GET", f"/v1/views/{quoted}", {}
    yield "GET", f"{rows}/{quoted}", {}
    yield "GET", f"/v1/views/lines/{quoted},{quoted}", {}
    yield "GET", f"{rows}/1", {"params": {"select": payload}}
    yield "GET", f"/v1/workflows/{quoted}", {}
    yield "GET", "/v1/workflows", {"params": {"service": payload, "entity": payload, "key": payload}}
    yield "GET", "/v1/events", {"params": {"type": payload, "subject": payload, "cursor": payload}}
    header = "".join(letter for letter in payload if " " <= letter <= "~")
    for name in ("Accept", "If-None-Match", "Prefer", "Mesh-Min-Position", "X-Correlation-ID", "traceparent"):
        yield "GET", rows, {"headers": {name: header}}
    yield (
        "GET",
        rows,
        {"headers": {"Mesh-Min-Position": f'{{"{MARK}.events":{{"0":1}}}}', "Prefer": f"wait=0, {header}"}},
    )
    for query in (
        {"view": payload},
        {"view": "orders", "key": payload},
        {"view": "orders", "parameters": {payload: payload}},
        {"view": "orders", "parameters": {"customer": [f"eq.{payload}", f"neq.{payload}"]}},
    ):
        yield "POST", "/v1/query", {"json": [query]}


@pytest.mark.parametrize(
    "payloads",
    [
        pytest.param(PAYLOADS[:: len(ENDINGS) - 1], id="some"),
        pytest.param(PAYLOADS, id="all", marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
    ],
)
def test_payloads_are_values_or_refused(
    filled: httpx.Client, role: str, payloads: list[str], statements: list[bytes]
) -> None:
    asked = 0
    for payload in payloads:
        for method, path, rest in requests(payload):
            answer = filled.request(method, path, **rest)
            asked += 1
            what = (method, path, rest, answer.status_code, answer.text[:300])
            assert answer.status_code < 500, what
            assert role == "admin" or HIDDEN not in f"{answer.text} {answer.headers}", what
            assert "set-cookie" not in answer.headers, what
            if answer.status_code >= 400:
                assert answer.json()["remedy"], what
                assert "psycopg" not in answer.text, what
    assert asked > 40 * len(payloads)
    assert len(statements) > 10 * len(payloads)
    # A name that `select` gives to a column is letters, digits and underscores, and quoted.
    alias = f'AS "{MARK}"'.encode()
    assert not [text for text in statements if MARK.encode() in text.replace(alias, b"")]
