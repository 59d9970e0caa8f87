"""How a long-running process is told to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable


def on_signals(stop: Callable[[], None]) -> None:
    """Call `stop`, in a thread, on SIGTERM and SIGINT; a second one ends the process at once."""

    def handle(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        # Not here: the interrupted thread may hold the very lock that setting an event takes.
        threading.Thread(target=stop, daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
