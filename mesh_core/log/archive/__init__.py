"""Topics kept as Parquet beyond their retention: written by `export`, read with what the topic still has as one log."""

from mesh_core.log.archive.driver import archived, with_archive
from mesh_core.log.archive.errors import ArchiveDamaged, ArchiveRefused
from mesh_core.log.archive.export import Exported, Selection, export_topic
from mesh_core.log.archive.manifest import Manifest, verify

__all__ = [
    "ArchiveDamaged",
    "ArchiveRefused",
    "Exported",
    "Manifest",
    "Selection",
    "archived",
    "export_topic",
    "verify",
    "with_archive",
]
