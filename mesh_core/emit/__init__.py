"""What a service imports to publish its events."""

from mesh_core.emit.publisher import Publisher

__all__ = ["Publisher"]
