"""Other tools as contenders, from a virtual environment of their own; see requirements/bench-peers."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

from bench.floor.payloads import CONTACT_COLUMNS
from bench.harness import Contender
from mesh_core.settings import ROOT

PYTHON = ROOT / ".mesh" / "bench-peers" / "bin" / "python"
MISSING = "Pathway and Bytewax are skipped: they are not installed. Run requirements/bench-peers."
JOINED = ", org_name text, invoice_count bigint, invoice_sum bigint"


def installed() -> bool:
    """Whether there is such an environment."""
    return PYTHON.is_file()


def pathway(task: str, columns: str, events: int) -> Contender:
    """Pathway. It has no offsets in the database: it is done once the table sums up to what the truth does."""
    return _tool("Pathway", ("-m", "bench.peers.by_pathway", task), task, columns, events)


def bytewax(columns: str, events: int) -> Contender:
    """Bytewax, with a sink of ours: it has none for Postgres, and no join of tables."""
    return _tool("Bytewax", ("-m", "bytewax.run", "bench.peers.by_bytewax:flow"), "w1", columns, events)


def _tool(name: str, command: tuple[str, ...], task: str, columns: str, events: int) -> Contender:
    # Pathway reserves the name `id`.
    own = columns.replace("id, ", "cid, ", 1)
    sums = "count(*), coalesce(sum(version), 0)"
    if task == "w2":
        sums += ", sum(invoice_count), sum(invoice_sum), sum(length(org_name))"
    return Contender(
        name=name,
        kind="peer",
        command=command,
        progress=f"SELECT CASE WHEN (SELECT ({sums})::text FROM projected) = (SELECT ({sums})::text FROM truth) "
        f"THEN {events} ELSE 0 END",
        rows=f"SELECT {own.replace('cid, ', 'cid AS id, ', 1)} FROM projected",
        prepare=lambda environment: _prepare(environment, task),
        interpreter=str(PYTHON),
        pause=0.1,
    )


def _prepare(environment: Mapping[str, str], task: str) -> None:
    columns = "c" + CONTACT_COLUMNS + (JOINED if task == "w2" else "")
    with psycopg.connect(environment["MESH_DATABASE_URL"]) as connection:
        connection.execute(f"CREATE TABLE projected ({columns})")
