"""A text in the user's own editor."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from mesh_core.errors import UsageError


def edited(text: str, suffix: str) -> str | None:
    """The text as it is once $VISUAL or $EDITOR (else vi) ends; None if it is what it was.

    Raises UsageError if the editor cannot be run or fails.
    """
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"event{suffix}"
        path.write_text(text, encoding="utf-8")
        try:
            subprocess.run([*shlex.split(command), str(path)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = str(error).rstrip(".")
            raise UsageError(
                f"The editor {command!r} did not work: {reason}.", remedy="Set EDITOR, or use --value FILE."
            ) from None
        after = path.read_text(encoding="utf-8")
    return None if after == text else after
