"""When what happened: the index of events, without reading Kafka."""

from __future__ import annotations

from collections.abc import Mapping

from mesh_core.model.grants import TIMELINE
from mesh_core.model.types import ColumnKind
from mesh_core.read.access import entries_seen
from mesh_core.read.conditions import Comparison, Reference
from mesh_core.read.database import Reader
from mesh_core.read.grammar import Paging, checked, fixed_query
from mesh_core.read.queries import ListQuery, Source
from mesh_core.read.rows import Page, read_page
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
    "FROM mesh.event_index AS e WHERE {}) AS f"
)


async def timeline(
    reader: Reader,
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
        live.require(TIMELINE)
        seen, bound = entries_seen(live, "e")
        source = Source("events", _SOURCE.format(seen), live.topics, values=bound)
        return fixed_query(source, _COLUMNS, _ORDER, paging, limit, cursor, conditions)

    return await read_page(reader, query, lambda live: live.feed, paging, demand)
