"""What there is to read: views with their freshness, entities, and the edges by which they can be joined."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mesh_core.model.entity import EntityModel
from mesh_core.model.grants import RELATIONS
from mesh_core.model.types import ColumnType
from mesh_core.model.view_model import ViewColumn, ViewModel, references
from mesh_core.read.compiler import Statement, head_values, headed
from mesh_core.read.database import Reader
from mesh_core.read.versions import Live, Version

_TOPICS = """
       (SELECT coalesce(json_object_agg(topic, facts), '{}')::text
        FROM (SELECT topic, json_build_object(
                  'position', json_object_agg(partition, next_offset ORDER BY partition),
                  'applied_at', max(updated_at), 'event_time', max(event_time),
                  'halted', min(topic || '[' || partition || ']: ' || halted_reason)) AS facts
              FROM mesh.checkpoints WHERE build = 0 AND topic = ANY(%s::text[]) GROUP BY topic) AS topics),
       (SELECT coalesce(json_object_agg(version_id, noted_at), '{}')::text
        FROM (SELECT version_id, min(noted_at) AS noted_at FROM mesh.fan_out GROUP BY version_id) AS fan_outs)
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """A document of plain data, and the position of the snapshot that it was read in."""

    document: Any
    position: str
    age: float | None


async def views(reader: Reader) -> Facts:
    """The live views: name, version, key, columns, what they are made of, and their freshness."""
    live, topics, fan_outs, position, age = await _read(reader)
    return Facts([_view(version, topics, fan_outs) for version in live.views.values()], position, age)


async def relations(reader: Reader) -> Facts:
    """Services, their entities, and the edges by which the live views join them."""
    live, topics, _, position, age = await _read(reader, RELATIONS)
    entities = [_entity(version, topics) for version in live.entities.values()]
    services: dict[str, list[str]] = {}
    for entity in entities:
        services.setdefault(entity["service"], []).append(entity["name"])
    document = {
        "services": [{"service": name, "entities": owned} for name, owned in services.items()],
        "entities": entities,
        "edges": _edges(live),
    }
    return Facts(document, position, age)


def columns_of(version: Version) -> list[dict[str, Any]]:
    """Name and type of each column; `precision` and `scale`, and what is said of it as `doc`, where they are declared."""
    docs = {column.name: column.doc for column in version.model.columns if isinstance(column, ViewColumn)}
    return [_column(name, kind, docs.get(name, "")) for name, kind in version.columns.items()]


async def _read(
    reader: Reader, resource: str | None = None
) -> tuple[Live, Mapping[str, Any], Mapping[str, str], str, float | None]:
    """What may be seen, where the `resource` is granted.

    The live versions, facts by topic, since when fan-outs are pending by version id, the position, the age.
    """
    text = headed(_TOPICS).encode()

    def statement(live: Live) -> Statement:
        if resource is not None:
            live.require(resource)
        return Statement(text, (list(live.topics), *head_values((), live.topics)))

    live, row = await reader.read(statement)
    _, position, age, topics, fan_outs = row
    return live, json.loads(topics), json.loads(fan_outs), position, age


def _view(version: Version, topics: Mapping[str, Any], fan_outs: Mapping[str, str]) -> dict[str, Any]:
    model = version.model
    assert isinstance(model, ViewModel)
    return {
        "name": version.name,
        "doc": model.doc,
        "version": version.number,
        "live_at": version.live_at,
        "key": list(version.key),
        "columns": columns_of(version),
        "cache": model.cache,
        "root": model.root,
        "entities": sorted(_entities(version, model)),
        "topics": sorted(version.topics),
        "freshness": _freshness(version, topics, fan_outs.get(str(version.id))),
    }


def _entities(version: Version, model: ViewModel) -> Collection[str]:
    """What the columns that may be seen are made of."""
    if version.columns.keys() == version.all_columns.keys():
        return model.entities
    found = {model.root}
    for column in model.columns:
        if column.name in version.columns and column.expression is not None:
            found |= {path[-1].target for path, _ in references(column.expression) if path}
    return found


def _entity(version: Version, topics: Mapping[str, Any]) -> dict[str, Any]:
    model = version.model
    assert isinstance(model, EntityModel)
    return {
        "name": version.name,
        "service": model.service,
        "entity": model.entity,
        "version": version.number,
        "key": list(version.key),
        "columns": columns_of(version),
        "topic": model.topic,
        "freshness": _freshness(version, topics),
    }


def _freshness(
    version: Version, topics: Mapping[str, Any], fan_out_since: str | None = None
) -> dict[str, Any]:
    known = {name: topics[name] for name in sorted(version.topics) if name in topics}
    reason = next((facts["halted"] for facts in known.values() if facts["halted"]), None)
    if reason is None and fan_out_since is not None:
        reason = fan_out_pending(fan_out_since)
    return {
        "stale": reason is not None,
        "reason": reason,
        "position": {name: facts["position"] for name, facts in known.items()},
        "applied_at": max((facts["applied_at"] for facts in known.values()), default=None),
        "event_time": max(filter(None, (facts["event_time"] for facts in known.values())), default=None),
    }


def fan_out_pending(since: str) -> str:
    """Why a view is stale whose rows are still being recomputed; `since` when, as RFC 3339."""
    return f"Not all rows reflect yet what changed since {since}: many do, and are recomputed bit by bit."


def _column(name: str, kind: ColumnType, doc: str) -> dict[str, Any]:
    document: dict[str, Any] = {"name": name, "type": kind.kind, "nullable": kind.nullable}
    if kind.precision is not None:
        document |= {"precision": kind.precision, "scale": kind.scale or 0}
    return document | {"doc": doc} if doc else document


def _edges(live: Live) -> list[dict[str, Any]]:
    found: dict[tuple[Any, ...], set[str]] = {}
    for version in live.views.values():
        assert isinstance(version.model, ViewModel)
        for path in version.model.paths:
            for edge in path:
                if not {edge.source, edge.target} <= live.entities.keys():
                    continue
                identity = (edge.source, edge.source_columns, edge.kind, edge.target, edge.target_columns)
                found.setdefault(identity, set()).add(version.name)
    return [
        {
            "kind": kind,
            "from": {"entity": source, "columns": list(source_columns)},
            "to": {"entity": target, "columns": list(target_columns)},
            "views": sorted(names),
        }
        for (source, source_columns, kind, target, target_columns), names in sorted(found.items())
    ]
