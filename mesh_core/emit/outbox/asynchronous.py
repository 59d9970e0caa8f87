"""Adding events to an outbox by an AsyncSession. Needs what `pip install sqlalchemy[asyncio]` installs.

>>> async_sessionmaker(engine, class_=AsyncOutboxSession, info={"outbox": table})  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from mesh_core.emit.outbox.session import OutboxSession
from mesh_core.model import Event


class AsyncOutboxSession(AsyncSession):
    """An AsyncSession whose `add_event`, a plain call, is that of OutboxSession."""

    sync_session_class = OutboxSession

    def add_event(self, event: Event, **options: Any) -> UUID:
        """See `OutboxSession.add_event`."""
        session = self.sync_session
        assert isinstance(session, OutboxSession)
        return session.add_event(event, **options)
