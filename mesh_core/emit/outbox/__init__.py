"""A transactional outbox: events are published if, and once, the transaction of what they tell of commits."""

from mesh_core.emit.outbox.session import OutboxSession, VersionConflict, add_event
from mesh_core.emit.outbox.tables import outbox_sql, outbox_table, waking_sql

__all__ = [
    "OutboxSession",
    "VersionConflict",
    "add_event",
    "outbox_sql",
    "outbox_table",
    "waking_sql",
]
