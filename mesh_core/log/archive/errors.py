"""What can go wrong with an archive."""

from __future__ import annotations

from mesh_core.errors import MeshError


class ArchiveRefused(MeshError):
    """An export would not go on from what the archive has."""


class ArchiveDamaged(MeshError):
    """An archive is not as its manifest says."""
