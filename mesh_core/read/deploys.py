"""The record of deploys: what each meant to do, how far its builds are, what it proved, how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.model.types import ColumnKind
from mesh_core.read.conditions import Comparison, Condition, Reference
from mesh_core.read.database import Reader
from mesh_core.read.errors import DeployNotFound, shown
from mesh_core.read.grammar import Paging, checked, fixed_query
from mesh_core.read.queries import ListQuery, Source
from mesh_core.read.rows import Answer, Page, read_page
from mesh_core.read.versions import Feed, Live
from mesh_core.read.waiting import NOTHING
from mesh_core.store.deploys import STATE

_COLUMNS: Mapping[str, ColumnKind] = {
    "id": "int",
    "state": "text",
    "started_by": "text",
    "started_at": "timestamptz",
    "finished_at": "timestamptz",
    "plan": "json",
    "builds": "json",
    "proofs": "json",
    "detail": "text",
}
_SOURCE = f"""(
    SELECT id, {STATE} AS state, started_by, started_at, finished_at, plan, proofs, detail,
           (SELECT coalesce(json_agg(row_to_json(b)), '[]')
            FROM (SELECT kind, name, done, total, started_at, updated_at, finished_at FROM mesh.builds
                  WHERE deploy_id = deploys.id ORDER BY kind, name) AS b) AS builds
    FROM mesh.deploys) AS d"""


async def deploys(
    reader: Reader, paging: Paging, *, limit: str | None = None, cursor: str | None = None
) -> Page:
    """All deploys, the newest first. Raises ReadError."""
    return await _page(reader, paging, limit, cursor)


async def one_deploy(reader: Reader, number: str, paging: Paging) -> Answer:
    """The deploy of this number. Raises DeployNotFound or another ReadError."""
    found = Comparison(Reference("id", "int"), "eq", checked("id", "int", number))
    page = await _page(reader, paging, None, None, [found])
    if page.rows == 0:
        raise DeployNotFound(
            f"There is no deploy {shown(number)}.", remedy="GET /v1/admin/deploys has them all."
        )
    return Answer(page.body[1:-1], page.position, page.age)


async def _page(
    reader: Reader,
    paging: Paging,
    limit: str | None,
    cursor: str | None,
    conditions: Sequence[Condition] = (),
) -> Page:
    def query(live: Live) -> ListQuery:
        source = Source("deploys", _SOURCE, (MESH_TOPIC,))
        return fixed_query(source, _COLUMNS, ("id",), paging, limit, cursor, conditions, descending=True)

    return await read_page(reader, query, lambda live: Feed("deploys", (MESH_TOPIC,), ()), paging, NOTHING)
