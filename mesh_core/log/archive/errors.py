"""What can go wrong with an archive."""

from __future__ import annotations

from mesh_core.errors import MeshError, UsageError


class ArchiveRefused(MeshError):
    """An export would not go on from what the archive has."""


class ArchiveDamaged(MeshError):
    """An archive is not as its manifest says."""


def missing_arrow() -> UsageError:
    """Whoever reads or writes an archive needs Arrow."""
    return UsageError("pyarrow is not installed.", remedy='pip install "flexmesh[analysis]".')
