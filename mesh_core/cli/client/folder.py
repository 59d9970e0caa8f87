"""The folder of a generated client: only what this command wrote is ever replaced or removed there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mesh_core.errors import MeshError

HEADER = "// Written by `mesh client typescript`: run it again rather than change this.\n"
"""First line of every file. It has no date and no version, so that the same views give the same bytes."""


class NotOurs(MeshError):
    """A file in the folder was not written by this command."""


class Folder:
    """A folder, and the files by name that are to be in it, each without HEADER."""

    def __init__(self, path: Path, files: Mapping[str, str]) -> None:
        """Raises NotOurs if a file of such a name was not written by this command."""
        self.path = path
        self._wanted = {name: HEADER + text for name, text in files.items()}
        for name in files:
            there = path / name
            if there.exists() and not _is_ours(there):
                raise NotOurs(
                    f"{there} was not written by this command.", remedy="Move it away, or give another --to."
                )

    @property
    def differing(self) -> list[str]:
        """Names of files that `write` would write or remove."""
        wrong = [name for name, text in self._wanted.items() if _text_of(self.path / name) != text]
        return sorted([*wrong, *self._superfluous()])

    def write(self) -> list[str]:
        """Write what differs, remove what an earlier run wrote and nothing needs any more; the names of both."""
        changed = self.differing
        self.path.mkdir(parents=True, exist_ok=True)
        for name in changed:
            if name in self._wanted:
                (self.path / name).write_text(self._wanted[name], encoding="utf-8", newline="\n")
            else:
                (self.path / name).unlink()
        return changed

    def _superfluous(self) -> list[str]:
        there = (path for path in self.path.glob("*.ts") if path.name not in self._wanted)
        return [path.name for path in there if _is_ours(path)]


def _is_ours(path: Path) -> bool:
    return path.is_file() and (_text_of(path) or "").startswith(HEADER)


def _text_of(path: Path) -> str | None:
    try:
        return path.read_bytes().decode(errors="replace").replace("\r\n", "\n")  # as Git may check it out
    except FileNotFoundError:
        return None
