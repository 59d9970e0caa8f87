"""The relay: publishes what services wrote to their outboxes."""

from mesh_core.emit.relay.address import OutboxAddress
from mesh_core.emit.relay.relay import Relay

__all__ = ["OutboxAddress", "Relay"]
