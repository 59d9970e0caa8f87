"""Foreign topics: what others publish as they do, and where in it an event of the mesh is found, as plain data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from mesh_core.model.errors import DeclarationError

Form = Literal["json", "rows"]
Unit = Literal["s", "ms", "us", "ns", "days"]
HEADER = "header:"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)
SAVED, DELETED = ("c", "r", "u"), ("d",)
"""Debezium's `op`: created, read by a snapshot, updated; deleted."""


@dataclass(frozen=True, slots=True)
class ForeignTopic:
    """A topic whose records are no events of the mesh, and how they are read as such.

    A place is `header:NAME`, or a path of names in the value, joined by points. `types` leads from what is at `type` to the
    type of event; without any, what is there is the type. `key` are places that make the entity's key; none: the record
    key does. `data` is where the payload is, by default all of the value. Where there is no place for `time` it is the
    record's, for `id` it is made of topic, partition and offset. `units` says of fields of the payload, and of `time`, what
    their numbers count from 1970 on.
    """

    name: str
    form: Form
    type: str | None = None
    types: tuple[tuple[str, str], ...] = ()
    key: tuple[str, ...] = ()
    data: str | None = None
    time: str | None = None
    id: str | None = None
    workflow: str | None = None
    sequence: str | None = None
    units: tuple[tuple[str, Unit], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        found |= {name: dict(found[name]) for name in ("types", "units")} | {"key": list(self.key)}
        return {name: value for name, value in found.items() if value not in (None, {}, [])}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ForeignTopic:
        """What `to_json` wrote."""
        given = dict(data)
        given |= {name: tuple(given.get(name, {}).items()) for name in ("types", "units")}
        return cls(**given | {"key": tuple(given.get("key", ()))})

    def tells(self, event_type: str) -> bool:
        """Whether an event of this type can be in it."""
        return not self.types or event_type in dict(self.types).values()


def json_topic(
    name: str,
    *,
    types: str | Mapping[str, str] | None = None,
    type: str | None = None,  # noqa: A002  # as CloudEvents calls it
    key: str | Sequence[str] = (),
    data: str | None = None,
    time: str | None = None,
    id: str | None = None,  # noqa: A002
    workflow: str | None = None,
    sequence: str | None = None,
    units: Mapping[str, Unit] | None = None,
) -> ForeignTopic:
    """A topic of JSON objects; see ForeignTopic. `types` alone, as one text: all records are events of this type.

    >>> json_topic("legacy.orders", type="kind", types={"new": "legacy.order.placed.v1"}, key="order.id", time="at").key
    ('order.id',)
    """
    if isinstance(types, str):
        types = {"": types}
        if type is not None:
            raise DeclarationError(f"{name}: types is one type, so `type` has nothing to tell.")
    elif type is None:
        raise DeclarationError(
            f"{name}: nothing says of which type a record is.", remedy="Give type=, or types=."
        )
    return _checked(
        ForeignTopic(
            name,
            "json",
            type,
            tuple((types or {}).items()),
            (key,) if isinstance(key, str) else tuple(key),
            data,
            time,
            id,
            workflow,
            sequence,
            tuple((units or {}).items()),
        )
    )


def outbox_topic(
    name: str,
    *,
    types: Mapping[str, str] | None = None,
    type: str = "header:eventType",  # noqa: A002
    data: str | None = None,
    time: str | None = None,
    workflow: str | None = None,
    sequence: str | None = None,
    units: Mapping[str, Unit] | None = None,
) -> ForeignTopic:
    """A topic of Debezium's outbox event router: key and header `id` as it writes them, the payload as the value.

    Have it write the type: `table.fields.additional.placement=type:header:eventType`, or name where it is.
    """
    return json_topic(
        name,
        type=type,
        types=types,
        data=data,
        time=time,
        id="header:id",
        workflow=workflow,
        sequence=sequence,
        units=units,
    )


def row_changes(
    name: str,
    *,
    saved: str,
    key: str | Sequence[str],
    deleted: str | None = None,
    units: Mapping[str, Unit] | None = None,
) -> ForeignTopic:
    """A topic of Debezium's row changes: a row that is there now is an event `saved`, one that is gone `deleted`.

    `key` names the columns of the key. An event `deleted` has the key's columns, and what the table's replica identity
    has besides. Where `deleted` is not given, rows stay.
    """
    types = [*((op, saved) for op in SAVED), *((op, deleted) for op in DELETED if deleted)]
    columns = (key,) if isinstance(key, str) else tuple(key)
    if not columns:
        raise DeclarationError(f"{name}: the key has no columns.")
    return _checked(
        ForeignTopic(name, "rows", "op", tuple(types), columns, units=tuple((units or {}).items()))
    )


def _checked(topic: ForeignTopic) -> ForeignTopic:
    if not _NAME.fullmatch(topic.name):
        raise DeclarationError(f"{topic.name[:80]!r} is not the name of a topic.")
    for field, unit in topic.units:
        if unit not in get_args(Unit):
            raise DeclarationError(
                f"{topic.name}: {unit!r} of {field} is none of {', '.join(get_args(Unit))}."
            )
    return topic
