"""The tables of an outbox: as SQL for any language, or in a service's own SQLAlchemy metadata."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import UserDefinedType

from mesh_core.errors import UsageError

_NAME = re.compile(r"(?:([a-z_][a-z0-9_]{0,39})\.)?([a-z_][a-z0-9_]{0,39})", re.ASCII)
_WAKING = "-- Wakes the relay"
_encoder = msgspec.json.Encoder(decimal_format="number")


def outbox_sql(table: str = "outbox") -> str:
    """The statements that make an outbox of this name, `[schema.]table`. Raises UsageError."""
    schema, name = split_name(table)
    text = Path(__file__).with_name("outbox.sql").read_text(encoding="utf-8")
    if schema is not None:
        text = re.sub(
            r"(CREATE TABLE |CREATE FUNCTION |EXECUTE FUNCTION | ON )outbox", rf"\1{schema}.outbox", text
        )
    return re.sub(r"\boutbox(?=\b|_)(?!')", name, text) if name != "outbox" else text


def outbox_table(metadata: sa.MetaData, name: str = "outbox", schema: str | None = None) -> sa.Table:
    """Adds an outbox to the metadata of a service; `create_all` makes all that `outbox_sql` does.

    Where migrations make the tables, execute `waking_sql` after them, so that events are published at once.
    Raises UsageError for a name that is not in small letters, digits and underscores.
    """
    split_name(name if schema is None else f"{schema}.{name}")
    table = sa.Table(
        name,
        metadata,
        sa.Column("id", sa.Uuid, primary_key=True, server_default=sa.text("gen_random_uuid()")),
        sa.Column("aggregatetype", sa.Text, nullable=False),
        sa.Column("aggregateid", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("payload", ExactJson, nullable=False),
        sa.Column("workflow_id", sa.Uuid),
        sa.Column("headers", postgresql.JSONB, nullable=False, server_default="{}"),
        sa.Column("aggregateversion", sa.BigInteger),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("position", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("sequence", sa.BigInteger),
        sa.Column("refused", sa.Text),
        schema=schema,
    )
    of = table.c
    refused, taken, versioned = (
        of.refused.is_not(None),
        of.sequence.is_not(None),
        of.aggregateversion.is_not(None),
    )
    waiting = sa.and_(of.sequence.is_(None), of.refused.is_(None))
    aggregate = (of.aggregatetype, of.aggregateid)
    sa.Index(f"{name}_version", *aggregate, of.aggregateversion, unique=True, postgresql_where=versioned)
    sa.Index(f"{name}_waiting", of.position, postgresql_where=waiting)
    sa.Index(f"{name}_taken", of.sequence, postgresql_where=taken)
    sa.Index(f"{name}_refused", *aggregate, postgresql_where=refused)
    sa.Table(
        f"{name}_relay",
        metadata,
        sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("published", sa.BigInteger, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        schema=schema,
    )
    full = name if schema is None else f"{schema}.{name}"
    for statement in _statements(waking_sql(full)):
        sa.event.listen(table, "after_create", _ddl(statement))
    sa.event.listen(table, "after_drop", _ddl(f"DROP FUNCTION IF EXISTS {full}_wake()"))
    return table


def waking_sql(table: str = "outbox") -> str:
    """The part of `outbox_sql` that wakes the relay at a commit, for migrations. Raises UsageError."""
    return _WAKING + outbox_sql(table).partition(_WAKING)[2]


def split_name(table: str) -> tuple[str | None, str]:
    """Schema, if there is one, and name of a table. Raises UsageError."""
    found = _NAME.fullmatch(table)
    if found is None:
        raise UsageError(
            f"{table[:100]!r} cannot be the name of an outbox.",
            remedy="Use small letters, digits and underscores, 40 at most, as in outbox or sales.outbox.",
        )
    return found[1], found[2]


class ExactJson(UserDefinedType[Any]):
    """jsonb whose Decimals are numbers, digit for digit."""

    cache_ok = True
    render_bind_cast = True

    def get_col_spec(self, **_: Any) -> str:
        """The type's name in SQL."""
        return "JSONB"

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[Any], str | None]:
        """A value as the text that Postgres reads."""
        return lambda value: None if value is None else _encoder.encode(value).decode()


def _ddl(statement: str) -> sa.DDL:
    return sa.DDL(statement.replace("%", "%%"))  # type: ignore[no-untyped-call]


def _statements(text: str) -> list[str]:
    """The statements of a script without its comments; a body between dollars is part of one."""
    text = re.sub("--.*", "", text)
    return [each.strip() for each in re.findall(r"(?:\$\$.*?\$\$|[^;])+", text, re.DOTALL) if each.strip()]
