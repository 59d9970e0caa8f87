"""Files of the stack's folder that are either whole or absent."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mesh_core.stack.errors import StackError

_NEEDED_BYTES = 500_000_000


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Replaces `path` by a file with this text, so that no reader and no crash ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.chmod(mode)
    temporary.replace(path)


def require_space(folder: Path) -> None:
    """Raises StackError where the disk of `folder` is too full for a service to start."""
    free = shutil.disk_usage(folder).free
    if free < _NEEDED_BYTES:
        raise StackError(
            f"The disk of {folder} has {free // 1_000_000} MB free; {_NEEDED_BYTES // 1_000_000} are needed.",
            remedy="Free some space, or set MESH_STACK_DIR to a folder on another disk.",
        )


def last_lines(log: Path, count: int = 5) -> str:
    """The end of a log, for an error message: its lines that tell of a failure, or simply its last ones."""
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return "(no log)"
    telling = [
        line
        for line in lines
        if any(word in line for word in ("FATAL", "ERROR", "Exception", "PANIC", "Error:"))
    ]
    return " | ".join((telling or lines)[-count:]) or "(empty log)"
