"""A projector's session with Postgres: the connection, and the plan that is applied on it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import psycopg

from mesh_core.engine import watch
from mesh_core.engine.backoff import Backoff
from mesh_core.engine.folding import Folding
from mesh_core.engine.intake import Batch
from mesh_core.engine.resilience import apply_resiliently
from mesh_core.engine.transaction import PIPELINED, Applied, Applier
from mesh_core.log.position import TopicPartition
from mesh_core.store import versions
from mesh_core.store.connections import connect
from mesh_core.store.errors import NotDeployed
from mesh_core.store.faults import fault_of
from mesh_core.telemetry import get_logger, metrics, process_span

LOCK_TIMEOUT_MS = 20_000
"""Who waits for a lock does not poll, and the group takes the partitions of whoever does not for a minute: try again."""
log = get_logger(__name__)


class Session:
    """Opens the connection and makes the plan, both anew when they are lost or out of date.

    A large batch is written by a thread of its own, while the next one is read. Only one uses the connection at a time:
    whoever asks for it waits until the batch is written.

    `fences` are looked at with every batch, so they may change. Setting `stopping` ends every wait.
    """

    def __init__(
        self,
        database_url: str,
        fences: Mapping[TopicPartition, int],
        stopping: threading.Event,
        fan_out_limit: int,
    ) -> None:
        self._url, self._fences, self._stopping = database_url, fences, stopping
        self._fan_out_limit = fan_out_limit
        self._connection: psycopg.Connection[Any] | None = None
        self._applier: Applier | None = None
        self._backoff = Backoff()
        self._thread = ThreadPoolExecutor(1, "writer")
        self._written: Future[Applied] | None = None

    def open(self) -> None:
        """Connect and make the plan, waiting for Postgres as long as it takes.

        Raises NotDeployed when there is nothing to keep up, and psycopg errors that do not pass.
        """
        while True:
            try:
                self.close()
                self._connection = connect(self._url, "mesh projector")
                self._connection.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
                self.renew_plan()
                self.worked()
                return
            except psycopg.Error as error:
                if fault_of(error) != "passing" or self._stopping.is_set():
                    raise
                self.wait(error)

    def close(self) -> None:
        """Close the connection, if there is one, once what was begun is written."""
        self.settle()
        if self._connection is not None:
            self._connection.close()

    def begin(self, batches: Sequence[Batch], ahead: Folding | None) -> None:
        """Write batches, in the background if they are large; `finish` tells what came of it, before others are begun.

        `ahead` has what was folded of them already.
        """
        assert self._written is None, "what was begun before is not finished"
        if sum(map(len, batches)) > PIPELINED:
            self._written = self._thread.submit(_write, self.applier, batches, ahead)
            return
        written: Future[Applied] = Future()
        try:
            written.set_result(_write(self.applier, batches, ahead))
        except Exception as error:  # `finish` raises it, as it does that of the thread
            written.set_exception(error)
        self._written = written

    def finish(self) -> Applied | None:
        """Wait for what was begun, if anything; what it did. Raises what `apply_resiliently` raises."""
        written, self._written = self._written, None
        return written.result() if written else None

    def settle(self, timeout: float | None = None) -> None:
        """Wait until nothing is being written, `timeout` seconds at most. Raises nothing: `finish` does, later."""
        if self._written is not None:
            wait([self._written], timeout)

    def is_writing(self) -> bool:
        """Whether what was begun is still being written."""
        return self._written is not None and not self._written.done()

    def connected(self) -> psycopg.Connection[Any]:
        """The connection, opened again if it was lost. Raises as `open`."""
        self.settle()
        if self._connection is None or self._connection.closed or self._connection.broken:
            self.open()
        assert self._connection is not None
        return self._connection

    @property
    def applier(self) -> Applier:
        """What applies batches by the plan; another one after each change of the connection or the plan."""
        assert self._applier is not None, "the session is not open"
        return self._applier

    def renew_plan(self) -> None:
        """Make the plan anew, after a deploy. Raises NotDeployed, and psycopg errors."""
        assert self._connection is not None, "the session is not open"
        plan = versions.live_plan(self._connection)
        if not plan.entities:
            raise NotDeployed(
                "Nothing is deployed, so there is nothing to project.", remedy="Run mesh deploy first."
            )
        self._applier = Applier(self._connection, plan, self._fences, fan_out_limit=self._fan_out_limit)
        with self._connection.transaction():
            self._connection.execute("DISCARD TEMP")  # nobody knows the tables of the plan before any more
            self._applier.prepare()
        log.info("plan", generation=plan.generation, entities=len(plan.entities), views=len(plan.views))

    def renew_plan_if_changed(self) -> None:
        """Make the plan anew if there was a deploy. Raises as `renew_plan`."""
        if versions.generation(self.connected()) != self.applier.plan.generation:
            self.renew_plan()

    def wait(self, error: psycopg.Error) -> None:
        """Pause before the next try, longer each time until something worked; say why."""
        metrics.RETRIES.labels("postgres").inc()
        seconds = self._backoff.next()
        log.warning("waiting", cause="postgres", error=str(error).split("\n")[0], seconds=round(seconds, 2))
        self._stopping.wait(seconds)

    def worked(self) -> None:
        """Postgres did what was asked of it; the next wait is short again."""
        self._backoff.reset()


def _write(applier: Applier, batches: Sequence[Batch], ahead: Folding | None) -> Applied:
    records = sum(map(len, batches))
    with process_span(batches[0].partition.topic, watch.traceparents(batches), records=records):
        done = apply_resiliently(applier, batches, ahead)
    metrics.BATCH_RECORDS.observe(records)
    watch.count(done.counts)
    return done
