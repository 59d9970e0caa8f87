"""What a service imports to publish its events."""

from mesh_core.emit.middleware import MeshMiddleware
from mesh_core.emit.publisher import Publisher
from mesh_core.telemetry import bound

__all__ = ["MeshMiddleware", "Publisher", "bound"]
