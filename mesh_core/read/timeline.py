"""When what happened: the index of events, without reading Kafka."""

from __future__ import annotations

from collections.abc import Mapping

from mesh_core.model.types import ColumnKind
from mesh_core.read.conditions import Comparison, Reference
from mesh_core.read.database import Database
from mesh_core.read.grammar import Paging, checked, fixed_query
from mesh_core.read.queries import ListQuery, Source
from mesh_core.read.rows import Page, page_meeting
from mesh_core.read.versions import Live
from mesh_core.read.waiting import NOTHING, Demand

FILTERS: Mapping[str, str] = {
    "workflow": "workflow_id",
    "service": "service",
    "entity": "entity",
    "subject": "subject",
    "type": "type",
}
"""Parameters, and the columns that they are compared with."""

_COLUMNS: Mapping[str, ColumnKind] = {
    "time": "timestamptz",
    "type": "text",
    "service": "text",
    "entity": "text",
    "subject": "text",
    "workflow_id": "uuid",
    "topic": "text",
    "partition": "int",
    "offset": "int",
}
_ORDER = ("time", "topic", "partition", "offset")
_SOURCE = (
    '(SELECT time, type, service, entity, key AS subject, workflow_id, topic, partition, "offset" '
    "FROM mesh.event_index) AS e"
)


async def timeline(
    database: Database,
    filters: Mapping[str, str],
    paging: Paging,
    *,
    limit: str | None = None,
    cursor: str | None = None,
    demand: Demand = NOTHING,
) -> Page:
    """Events that belong to a workflow, in the order of their time, by any of FILTERS. Raises ReadError.

    A row tells where the event is in the log, not what it says.
    """
    conditions = []
    for name, text in filters.items():
        reference = Reference(FILTERS[name], _COLUMNS[FILTERS[name]])
        conditions.append(Comparison(reference, "eq", checked(name, reference.kind, text)))

    def query(live: Live) -> ListQuery:
        source = Source("events", _SOURCE, live.topics)
        return fixed_query(source, _COLUMNS, _ORDER, paging, limit, cursor, conditions)

    return await page_meeting(database, query, paging, demand)
