"""PostgreSQL refuses to run as root: how root, in a container say, runs it all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from mesh_core.stack.errors import MissingPrerequisite

_NOBODY = 65534


@cache
def without_root() -> tuple[str, ...]:
    """The command before PostgreSQL's that takes root away, for as root it refuses to run."""
    if os.geteuid() != 0:
        return ()
    mapped = ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}")
    if (
        shutil.which("unshare")
        and subprocess.run([*mapped, "true"], capture_output=True, check=False).returncode == 0
    ):
        return mapped  # root outside, nobody inside: no file needs another owner
    if shutil.which("setpriv"):  # inside a container, user namespaces are often forbidden
        return ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups")
    raise MissingPrerequisite(
        "PostgreSQL does not run as root, and neither unshare nor setpriv is there.", remedy=remedy()
    )


def give(folder: Path) -> None:
    """As root: lets the user that PostgreSQL runs as own its folder, whoever it ran as before."""
    if os.geteuid() != 0:
        return
    owner = _NOBODY if without_root()[0] == "setpriv" else 0
    if (folder / "password").stat().st_uid == owner:  # written first, given last
        return
    for path in (*folder.rglob("*"), folder, folder / "password"):
        os.chown(path, owner, owner, follow_symlinks=False)


def remedy() -> str:
    """What to do where the folder of the stack is closed to that user."""
    return (
        "Run as an ordinary user, or set MESH_STACK_DIR to a folder that every user may enter, such as "
        + str(Path(tempfile.gettempdir()) / "mesh-stack")
    )
