"""Replays: a view as of a moment, built beside what serves and away from it, for whoever asks questions of the past."""

from mesh_core.engine.replay.asking import Only, Wishes
from mesh_core.engine.replay.comparing import Difference, check_comparable, compare
from mesh_core.engine.replay.declared import Declared, declared_in, live_declaration
from mesh_core.engine.replay.errors import ReplayRefused
from mesh_core.engine.replay.making import Replayed, replayed
from mesh_core.engine.replay.results import batches, check_file, check_schema, move_to_schema, write_file

__all__ = [
    "Declared",
    "Difference",
    "Only",
    "ReplayRefused",
    "Replayed",
    "Wishes",
    "batches",
    "check_comparable",
    "check_file",
    "check_schema",
    "compare",
    "declared_in",
    "live_declaration",
    "move_to_schema",
    "replayed",
    "write_file",
]
