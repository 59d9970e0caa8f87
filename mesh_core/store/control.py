"""The control schema `mesh`, as SQLAlchemy tables. Alembic makes them; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from mesh_core.store.schemas import CONTROL

metadata = MetaData(schema=CONTROL)
_now = text("clock_timestamp()")
_time = DateTime(timezone=True)

generation = Table(
    "generation",
    metadata,
    Column("id", SmallInteger, primary_key=True, server_default=text("1")),
    Column("value", BigInteger, nullable=False, server_default=text("1")),
    comment="Rises with every change of versions, so that projectors and readers notice.",
)

declared_grants = Table(
    "declared_grants",
    metadata,
    Column("data", JSONB, primary_key=True),
    comment="What the catalog grants, as it was last deployed; grants made centrally are folded from mesh.events.",
)

versions = Table(
    "versions",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("kind", Text, nullable=False, comment="entity or view"),
    Column("name", Text, nullable=False, comment="service.entity, or the view's name"),
    Column("number", Integer, nullable=False),
    Column("relation", Text, nullable=False, comment="the physical table in schema data"),
    Column("fingerprint", Text, nullable=False),
    Column("declaration", JSONB, nullable=False, comment="EntityModel or ViewModel as plain JSON"),
    Column(
        "reads", JSONB, nullable=False, server_default=text("'{}'"), comment="a view: entity -> version id"
    ),
    Column("topics", ARRAY(Text), nullable=False, comment="topics that feed it"),
    Column("state", Text, nullable=False, comment="building, queued, joined, live, previous, kept"),
    Column("created_at", _time, nullable=False, server_default=_now),
    Column("live_at", _time),
    Column(
        "presentation",
        JSONB,
        nullable=False,
        server_default=text("'{}'"),
        comment="a view: doc, columns and cache of its declaration, which change without a build",
    ),
    UniqueConstraint("kind", "name", "number"),
    Index("versions_one_live", "kind", "name", unique=True, postgresql_where=text("state = 'live'")),
)

version_numbers = Table(
    "version_numbers",
    metadata,
    Column("stem", Text, primary_key=True, comment="the physical table without its number"),
    Column("number", Integer, nullable=False),
    comment="The last number given; none is given twice, since cursors and tables that are still read carry it.",
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column(
        "build",
        Integer,
        primary_key=True,
        server_default=text("0"),
        comment="0, or the building entity's version id",
    ),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
    Column("fence", BigInteger, nullable=False, server_default=text("0")),
    Column("topic_id", Text, nullable=False),
    Column("partitions", Integer, nullable=False, comment="partition count of the topic"),
    Column("consumed", BigInteger, nullable=False, server_default=text("0")),
    Column("applied", BigInteger, nullable=False, server_default=text("0")),
    Column("ignored", BigInteger, nullable=False, server_default=text("0")),
    Column("dead_lettered", BigInteger, nullable=False, server_default=text("0")),
    Column("parked", BigInteger, nullable=False, server_default=text("0")),
    Column("event_time", _time, comment="the record timestamp of the newest applied record"),
    Column("halted_reason", Text),
    Column("halted_at", _time),
    Column("updated_at", _time, nullable=False, server_default=_now),
    Column("current_at", _time, comment="all that was in the log then is applied; null: not known"),
)

held_events = Table(
    "held_events",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("version_id", Integer, primary_key=True, comment="the entity version that holds it"),
    Column("topic_id", Text, nullable=False),
    Column("status", Text, nullable=False, comment="dead (a dead letter) or parked (held behind one)"),
    Column("record_key", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    Column("edited", LargeBinary, comment="what an edit put in place of the value"),
    Column("headers", JSONB, nullable=False, server_default=text("'[]'")),
    Column("timestamp", BigInteger, nullable=False, comment="milliseconds since 1970"),
    Column("event_type", Text),
    Column("event_id", Text),
    Column("attempts", Integer, nullable=False, server_default=text("1")),
    Column("otherwise", Text, nullable=False, comment="what it came to for versions that do not hold it"),
    Column("counted", Text, nullable=False, comment="the outcome it is counted under"),
    Column("held_at", _time, nullable=False, server_default=_now),
    Index("held_events_by_key", "topic", "partition", "record_key"),
    comment="Dead letters and the events parked behind them, whole.",
)

decisions = Table(
    "decisions",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("topic_id", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("decided_offset", BigInteger, primary_key=True, comment="of the decision, on mesh.events"),
    Column("action", Text, nullable=False, comment="retry, edit or discard"),
    Column("value", LargeBinary, comment="the event that replaces an edited one"),
    Column("decided_at", _time, nullable=False),
    comment="Decisions on dead letters, folded from mesh.events; every build honours them.",
)

event_index = Table(
    "event_index",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("workflow_id", Uuid, nullable=False),
    Column("service", Text, nullable=False),
    Column("entity", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("time", _time, nullable=False),
    Index("event_index_workflow", "workflow_id", "time"),
    Index("event_index_entity", "service", "entity", "key"),
    Index("event_index_type", "type", "time"),
    comment="Where the events of a workflow are in the log: positions only.",
)

sequences = Table(
    "sequences",
    metadata,
    Column("version_id", Integer, primary_key=True),
    Column("record_key", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    comment="The last sequence met for a record key, kept beyond deletes.",
)

recent_ids = Table(
    "recent_ids",
    metadata,
    Column("version_id", Integer, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("offset", BigInteger, nullable=False),
    Index("recent_ids_by_offset", "version_id", "topic", "partition", "offset"),
    comment="Event ids within the window that an add declares.",
)

ingested = Table(
    "ingested",
    metadata,
    Column("digest", Uuid, primary_key=True),
    Column("claimed_at", _time, nullable=False),
    Column("topic", Text, comment="null: not acknowledged yet"),
    Column("partition", Integer),
    Column("offset", BigInteger),
    Index("ingested_by_age", "claimed_at"),
    comment="Events of the last while that came by HTTP: a digest of source and id, and where the log has them.",
)

deploys = Table(
    "deploys",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("state", Text, nullable=False, comment="waiting, running, done, refused, failed or interrupted"),
    Column("plan", JSONB, nullable=False),
    Column("proofs", JSONB, nullable=False, server_default=text("'[]'")),
    Column("detail", Text),
    Column("started_at", _time, nullable=False, server_default=_now),
    Column("finished_at", _time),
    Column("started_by", Text, comment="user@host; null: not known"),
    comment="What every deploy meant to do, what it proved, and how it ended.",
)

builds = Table(
    "builds",
    metadata,
    Column("version_id", Integer, primary_key=True, autoincrement=False),
    Column("deploy_id", Integer, ForeignKey("mesh.deploys.id", ondelete="CASCADE"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("done", BigInteger, nullable=False, server_default=text("0")),
    Column("total", BigInteger),
    Column("started_at", _time, nullable=False, server_default=_now),
    Column("updated_at", _time, nullable=False, server_default=_now),
    Column("finished_at", _time),
    comment="How far the filling of a version is: events read, or rows of a view.",
)

replays = Table(
    "replays",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("view", Text, nullable=False),
    Column("asked", JSONB, nullable=False, comment="what decides its rows: declarations, position, keys"),
    Column("state", Text, nullable=False, comment="copying, applying (batch by batch) or computing"),
    Column("done", BigInteger, nullable=False, server_default=text("0"), comment="events read, of total"),
    Column("total", BigInteger, nullable=False),
    Column("started_at", _time, nullable=False, server_default=_now),
    Column("updated_at", _time, nullable=False, server_default=_now),
    comment="Private builds of a view as of a moment, until what they come to is written; interrupted ones are gone on with.",
)

fan_out = Table(
    "fan_out",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("version_id", Integer, nullable=False, comment="the view version whose rows are out of date"),
    Column("node", Text, nullable=False, comment="the place in the view's tree"),
    Column("key", JSONB, nullable=False, comment="what the way to the roots starts from"),
    Column("hash", LargeBinary, nullable=False, comment="SHA-256 of node and key, which may be long"),
    Column("after", JSONB, comment="key of the root that was recomputed last"),
    Column("until", JSONB, comment="key of the root at which the round ends; null: at the last"),
    Column("changes", BigInteger, nullable=False, server_default=text("1")),
    Column("noted_at", _time, nullable=False, server_default=_now, comment="of the first change"),
    UniqueConstraint("version_id", "hash"),
    Index("fan_out_by_node", "version_id", "node", "id"),
    comment="Changes that reach many roots of a view, until their rows are recomputed.",
)
