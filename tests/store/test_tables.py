"""Tables made from declarations: types, keys, defaults, and the indexes that edges need."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest

from mesh_core.model import Col, Entity, Event, Key, View, by_workflow, column, many, one, upsert
from mesh_core.model.entity import EntityModel
from mesh_core.store.migrate import migrate
from mesh_core.store.tables import (
    create_entity_table,
    create_indexes,
    create_read_view,
    create_view_table,
    needed_indexes,
)


class Measured(Event, type="lab.sample.measured.v1"):
    batch: int
    name: str
    parent: int
    remark: str
    amount: Decimal
    price: Decimal
    weight: float
    good: bool
    at: datetime
    due: date | None = None
    reference: UUID
    extra: dict[str, Any]


class Sample(Entity, service="lab"):
    batch: Key[int]
    name: Key[str]
    parent: Col[int]
    remark: Col[str]
    amount: Col[Decimal]
    price: Col[Decimal] = column(precision=12, scale=4)
    weight: Col[float]
    good: Col[bool] = column(default=True)
    at: Col[datetime]
    due: Col[date | None]
    reference: Col[UUID]
    extra: Col[dict[str, Any]]
    folds = upsert(Measured)


class BatchMade(Event, type="lab.batch.made.v1"):
    batch: int


class Batch(Entity, service="lab"):
    batch: Key[int]
    folds = upsert(BatchMade)


class NoteTaken(Event, type="lab.note.taken.v1"):
    remark: str


class Note(Entity, service="lab"):
    remark: Key[str]
    folds = upsert(NoteTaken)


ENTITIES: dict[str, EntityModel] = {entity.model.name: entity.model for entity in (Sample, Batch, Note)}
of_batch, of_parent = many(Sample.batch, Batch.batch), many(Sample.parent, Batch.batch)
note = one(Sample.remark, Note.remark)


@pytest.fixture
def connection(database_url: str) -> Any:
    migrate(database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def test_columns_have_the_types_of_the_declaration(connection: psycopg.Connection[Any]) -> None:
    create_entity_table(connection, Sample.model, "lab_sample__1")
    found = connection.execute(
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, c.collname FROM pg_attribute a "
        "LEFT JOIN pg_collation c ON c.oid = a.attcollation "
        "WHERE a.attrelid = 'data.lab_sample__1'::regclass AND a.attnum > 0 ORDER BY a.attnum"
    ).fetchall()
    assert found == [
        ("batch", "bigint", True, None),
        ("name", "text", True, "C"),
        ("parent", "bigint", True, None),
        ("remark", "text", True, "C"),
        ("amount", "numeric", True, None),
        ("price", "numeric(12,4)", True, None),
        ("weight", "double precision", True, None),
        ("good", "boolean", True, None),
        ("at", "timestamp with time zone", True, None),
        ("due", "date", False, None),
        ("reference", "uuid", True, None),
        ("extra", "jsonb", True, None),
        ("_partition", "integer", True, None),
    ]
    key = connection.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conrelid = 'data.lab_sample__1'::regclass AND contype = 'p'"
    ).fetchone()
    assert key == ("PRIMARY KEY (batch, name)",)


def test_the_read_schema_shows_declared_columns_only(connection: psycopg.Connection[Any]) -> None:
    create_entity_table(connection, Sample.model, "lab_sample__1")
    create_read_view(connection, "lab_sample__1", [column.name for column in Sample.model.columns])
    shown = connection.execute("SELECT * FROM read.lab_sample__1").description
    assert shown is not None
    assert "_partition" not in [column.name for column in shown]


def test_edges_have_the_indexes_that_they_are_walked_by() -> None:
    view = View(
        "batch_list",
        Batch,
        batch=Batch.batch,
        samples=of_batch.count(),
        children=of_parent.count(),
        notes=of_batch[note].list(Note.remark),
        together=by_workflow(Batch, Note).count(),
    )
    assert set(needed_indexes(view.model, ENTITIES)) == {
        ("lab.sample", '("parent")'),
        ("lab.sample", 'USING hash ("remark")'),
        ("lab.batch", '(("batch"::text) COLLATE "C")'),
    }


def test_indexes_are_made_once_for_all_views(connection: psycopg.Connection[Any]) -> None:
    relations = {name: f"{model.table}__1" for name, model in ENTITIES.items()}
    for name, model in ENTITIES.items():
        create_entity_table(connection, model, relations[name])
    for name in ("first", "second"):
        view = View(name, Batch, batch=Batch.batch, children=of_parent.count())
        create_view_table(connection, view.model, f"{name}__1")
        create_indexes(connection, view.model, ENTITIES, relations)
    indexes = connection.execute(
        "SELECT count(*) FROM pg_index WHERE indrelid = 'data.lab_sample__1'::regclass"
    ).fetchone()
    assert indexes == (2,), "the key and the parent"


def test_a_hash_index_takes_text_of_any_length(connection: psycopg.Connection[Any]) -> None:
    create_entity_table(connection, Sample.model, "lab_sample__1")
    connection.execute('CREATE INDEX ON data.lab_sample__1 USING hash ("remark")')
    connection.execute(
        "INSERT INTO data.lab_sample__1 VALUES (1, 'n', 1, repeat(md5('x'), 30000), 1, 1, 1, true, now(), NULL, "
        "gen_random_uuid(), '{}', 0)"
    )
