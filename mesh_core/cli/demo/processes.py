"""The demo's own two processes: a projector and an API, as anybody would run them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mesh_core.errors import MeshError
from mesh_core.stack import StackBusy, processes
from mesh_core.stack.files import last_lines
from mesh_core.stack.locks import exclusive


class ProcessEnded(MeshError):
    """A process of the demo ended."""


class DemoRunning(MeshError):
    """A demo is running already on this stack."""


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


@contextmanager
def only_demo(folder: Path) -> Iterator[None]:
    """Sees to it that no other demo uses this folder; ends what a killed one has left running.

    Raises DemoRunning.
    """
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(folder / "lock", timeout_seconds=0))
        except StackBusy:
            raise DemoRunning(remedy="Use it, or end it with Ctrl-C in its terminal.") from None
        for log in folder.glob("*.log"):
            if (orphan := processes.find(_marker(log))) is not None:
                processes.end(orphan, signal.SIGTERM, 5.0)
        yield


def _marker(log: Path) -> str:
    """An option that means nothing to Python; by it a later demo finds the process."""
    return f"mesh_demo={log}"
