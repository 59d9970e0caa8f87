"""A service that keeps its own copy of what others tell: each event takes effect once, with its checkpoint."""

from mesh_core.emit.subscriber.events import EventRefused, Received
from mesh_core.emit.subscriber.letters import Letter
from mesh_core.emit.subscriber.session import SubscriberStopped
from mesh_core.emit.subscriber.store import subscriber_sql
from mesh_core.emit.subscriber.subscriber import Subscriber

__all__ = ["EventRefused", "Letter", "Received", "Subscriber", "SubscriberStopped", "subscriber_sql"]
