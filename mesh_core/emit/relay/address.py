"""Where an outbox is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mesh_core.emit.outbox.tables import split_name
from mesh_core.errors import UsageError

_WRITTEN = re.compile(r"([a-z][a-z0-9_]*)=(postgres(?:ql)?://[^#\s]+)(?:#([a-z0-9_.]+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class OutboxAddress:
    """The outbox of a service: whose events it publishes, in which database, in which table."""

    service: str
    database_url: str = field(repr=False)
    table: str = "outbox"

    @classmethod
    def parse(cls, text: str) -> OutboxAddress:
        """From `SERVICE=URL[#[SCHEMA.]TABLE]`. Raises UsageError, which does not show the URL's password."""
        found = _WRITTEN.fullmatch(text.strip())
        if found is None:
            raise UsageError(
                f"The outbox that begins with {text.strip().partition('=')[0][:40]!r} is not written as it should be.",
                remedy="Write SERVICE=postgresql://user:password@host/database, and #schema.table after it if the table "
                "is not `outbox`.",
            )
        split_name(found[3] or "outbox")
        return cls(found[1], found[2], found[3] or "outbox")
