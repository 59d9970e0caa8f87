"""The demo's own two processes: a projector and an API, as anybody would run them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from mesh_core.errors import MeshError
from mesh_core.stack import processes
from mesh_core.stack.files import last_lines


class ProcessEnded(MeshError):
    """A process of the demo ended."""


class Child:
    """A `mesh` command that runs beside the demo, its output in a file."""

    def __init__(self, folder: Path, name: str, environment: Mapping[str, str]) -> None:
        """Starts `mesh <name>` with these variables besides ours."""
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.log = name, folder / f"{name}.log"
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-X", _marker(self.log), "-m", "mesh_core.cli", name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | environment,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends it in order
            )

    def check(self) -> None:
        """Raises ProcessEnded, quoting the log, if it does not run any more."""
        if (status := self._process.poll()) is not None:
            raise ProcessEnded(
                f"mesh {self.name} ended with exit status {status}: {last_lines(self.log)}",
                remedy=f"See {self.log}.",
            )

    def stop(self) -> None:
        """Ends it. Raises ProcessEnded if it did not end in order."""
        self._process.terminate()
        try:
            status = self._process.wait(15.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if status != 0:
            raise ProcessEnded(
                f"mesh {self.name} ended with exit status {status} when told to: {last_lines(self.log)}",
                remedy=f"See {self.log}.",
            )


def end_leftovers(folder: Path) -> None:
    """Ends what a killed demo has left running, so that its ports are free."""
    for log in folder.glob("*.log"):
        if (orphan := processes.find(_marker(log))) is not None:
            processes.end(orphan, signal.SIGTERM, 5.0)


def _marker(log: Path) -> str:
    """An option that means nothing to Python; by it a later demo finds the process."""
    return f"mesh_demo={log}"
