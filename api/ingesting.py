"""Events that come by HTTP: checked, authorised, published once, answered with where they are in the log.

Requests that come at once share their statements and their wait for Kafka. A round claims the events of its requests in
Postgres, sends those that are new, and remembers where they are; so an event that is sent again, to whichever process, is
published once. Whoever dies in between leaves a claim, which the next to send the event takes over after a minute: then
the log may have it twice, under the same id and `sequence`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, NamedTuple

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from api.registry import Registry
from mesh_core.contracts import Accepted, Contracts, Refusal
from mesh_core.errors import DependencyUnavailable, MeshError
from mesh_core.log import (
    Delivered,
    KafkaConfig,
    MessageTooLarge,
    Outgoing,
    Producer,
    SentTogether,
    TopicMissing,
    connect,
)
from mesh_core.log.cloudevents import STRUCTURED_HEADERS
from mesh_core.model.grants import publishing
from mesh_core.read import Database
from mesh_core.read.access import seen_by
from mesh_core.read.errors import NotMigrated
from mesh_core.read.subject import Subject
from mesh_core.settings import Settings
from mesh_core.store import ingested
from mesh_core.store.ingested import Digest
from mesh_core.telemetry import get_logger, metrics

TIMEOUT = 10.0
"""Seconds that a request waits for Kafka's acknowledgement."""
AT_ONCE = 2
"""Rounds that are under way."""
PATIENCE = 0.05
"""Seconds that events wait for the round under way before another begins beside it.

The fewer rounds, the larger, and the less of each an event pays: two at once had ten events each where one has sixteen,
and were a tenth slower.
"""
MOST = 1_000
"""Events in a round, but for a request that has more."""
_LINGER_MS = 1
_FEW = 50
"""Records that are sent from the event loop, at most: a thousand would keep it from its other requests."""
_ELSEWHERE = 3.0
_FORGET = 30.0
log = get_logger(__name__)


class TooManyEvents(DependencyUnavailable):
    """More events wait to be published than may."""


class BeingPublished(DependencyUnavailable):
    """The event is being published for another request."""


class IngestUnavailable(DependencyUnavailable):
    """Postgres cannot be reached, so nothing is published."""


class Published(NamedTuple):
    """Where the log has an event; `duplicate` where it had it before this request."""

    place: Delivered
    duplicate: bool


@dataclass(slots=True)
class _Job:
    """The events of a request."""

    subject: Subject
    events: Mapping[Digest, Accepted]
    generation: int
    """Of the grants by which it may publish them."""
    future: asyncio.Future[list[Published]] = field(repr=False)

    @property
    def services(self) -> set[str]:
        return {event.service for event in self.events.values()}


class Ingesting:
    """Connects at the first event, so that reads are served while Kafka is away."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        registry: Registry,
        database_url: str,
        kafka: KafkaConfig,
    ) -> None:
        self._settings, self._database, self._registry = settings, database, registry
        # A round has gathered already, so to wait for more gains nothing.
        self._kafka = replace(
            kafka, delivery_timeout=TIMEOUT, client_id="flexmesh-ingest", linger_ms=_LINGER_MS
        )
        self._producer: Producer | None = None
        self._starting = asyncio.Lock()
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._draining: set[asyncio.Task[None]] = set()
        self._forgotten = time.monotonic()
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] = AsyncConnectionPool(
            database_url,
            kwargs={
                "autocommit": True,
                "connect_timeout": 5,
                "application_name": "mesh ingest",
                # What is lost with Postgres' memory could be published twice, never not at all.
                "options": "-c synchronous_commit=off -c statement_timeout=10000",
            },
            min_size=0,
            max_size=AT_ONCE + 1,
            timeout=3.0,
            open=False,
        )

    async def check(
        self, values: Sequence[bytes], defaults: Mapping[str, str], *, surely: bool = False
    ) -> list[Accepted | Refusal]:
        """Each structured event as what it is published as, or why it is refused; `surely` by what holds now.

        Raises DeclarationError, ReadUnavailable, NotMigrated.
        """
        known = await self._registry.known(surely=surely)
        return await _checked(known.checking, values, defaults)

    async def publish(self, subject: Subject, events: Sequence[Accepted], generation: int) -> list[Published]:
        """Where the log has each event, once Kafka has acknowledged all of them.

        `generation` is what `authorise` answered; where grants have changed since, they are looked at again.
        Raises Forbidden where `subject` may not publish events of a service; TooManyEvents, BeingPublished,
        IngestUnavailable, LogUnavailable (DeliveryTimeout among it), TopicMissing, MessageTooLarge or DeliveryFailed. Those
        that were published all the same are not published again.
        """
        if self._waiting + len(events) > self._settings.ingest_queue_max and self._waiting:
            raise TooManyEvents(
                f"{self._waiting} events wait for Kafka.",
                remedy="Send it again after a while, or more slowly.",
            )
        digests = [digest_of(event) for event in events]
        future: asyncio.Future[list[Published]] = asyncio.get_running_loop().create_future()
        job = _Job(subject, dict(zip(digests, events, strict=True)), generation, future)
        self._jobs.append(job)
        self._waiting += len(job.events)
        if not self._draining or len(self._jobs) == 1:
            self._begin()
        published = dict(zip(job.events, await job.future, strict=True))
        places = []
        for digest in digests:
            places.append(published[digest])
            published[digest] = published[digest]._replace(duplicate=True)  # should it come again
        return places

    async def close(self) -> None:
        """Wait for what is under way, then let go of the connections and the producer."""
        if self._draining:
            await asyncio.wait(list(self._draining), timeout=TIMEOUT)
        await self._pool.close(timeout=1)
        producer, self._producer = self._producer, None
        if producer is not None:
            await asyncio.to_thread(producer.close)

    def _begin(self, waiting: _Job | None = None) -> None:
        """Begin a round; where one is under way, only if `waiting` is still next, and else look again in a while."""
        if not self._jobs or (waiting is not None and self._jobs[0] is not waiting):
            return
        if not self._draining or (waiting is not None and len(self._draining) < AT_ONCE):
            self._draining.add(asyncio.create_task(self._drain(), context=Context()))
        else:
            asyncio.get_running_loop().call_later(PATIENCE, self._begin, self._jobs[0])

    async def _drain(self) -> None:
        try:
            while self._jobs:
                await self._rounds_of_all()
                await self._forget()
                if len(self._draining) > 1:
                    break
        finally:
            # At once: whoever comes next must find that nobody drains, and begin.
            if (task := asyncio.current_task()) is not None:
                self._draining.discard(task)
            self._begin()

    async def _rounds_of_all(self) -> None:
        jobs: list[_Job] = []
        noted: dict[Digest, Delivered] = {}
        try:
            await self._start()
            async with self._connection() as connection:
                while jobs := self._next():
                    await self._round(connection, jobs, noted)
                    self._over(
                        jobs, BeingPublished(remedy="Send it again; it is then answered with where it is.")
                    )
                    if len(self._draining) > 1:
                        break
                await ingested.settle(connection, noted)
        except Exception as error:
            self._over(jobs or self._next(), error)

    def _next(self) -> list[_Job]:
        """The requests of a round; their events wait no longer."""
        jobs: list[_Job] = []
        count = 0
        while self._jobs and (not jobs or count + len(self._jobs[0].events) <= MOST):
            jobs.append(self._jobs.popleft())
            count += len(jobs[-1].events)
        return jobs

    def _over(self, jobs: list[_Job], error: Exception) -> None:
        for job in jobs:
            _fail(job, error)
            self._waiting -= len(job.events)

    async def _round(
        self, connection: psycopg.AsyncConnection[Any], jobs: list[_Job], noted: dict[Digest, Delivered]
    ) -> None:
        """Publish what is new of these requests. Where that is will be `noted`: with the claims of the next round."""
        events = {digest: event for job in jobs for digest, event in job.events.items()}
        places = {digest: Published(noted[digest], True) for digest in events if digest in noted}
        deadline = time.monotonic() + _ELSEWHERE
        while True:
            claims = await ingested.claim(connection, events.keys() - places.keys(), noted)
            noted.clear()
            places |= {digest: Published(place, True) for digest, place in claims.known.items()}
            failures: dict[Digest, Exception] = {}
            if ours := await self._still_allowed(connection, jobs, claims):
                # In their order, which those of a key keep.
                new = {digest: event for digest, event in events.items() if digest in ours}
                for digest, found in (await self._send(new)).items():
                    if isinstance(found, Delivered):
                        noted[digest] = found
                        places[digest] = Published(found, False)
                    else:
                        failures[digest] = found
                # What may be in the log stays claimed, until its claim is taken over.
                surely_not = [
                    d for d, why in failures.items() if isinstance(why, MessageTooLarge | TopicMissing)
                ]
                if surely_not:
                    await ingested.release(connection, surely_not)
            for job in jobs:
                _answer(job, places, failures)
            if time.monotonic() > deadline or all(job.future.done() for job in jobs):
                break
            await asyncio.sleep(0.05)  # for what is being published elsewhere

    async def _still_allowed(
        self, connection: psycopg.AsyncConnection[Any], jobs: list[_Job], claims: ingested.Claims
    ) -> frozenset[Digest]:
        """Those of our claims that somebody asked for who may publish them, by the grants of the claims' snapshot."""
        changed = [job for job in jobs if job.generation != claims.generation]
        if not changed:
            return claims.ours
        await self._database.at_least(claims.generation)
        for job in changed:
            try:
                job.generation = await self.authorise(job.subject, job.services)
            except MeshError as error:
                _fail(job, error)
        allowed = {digest for job in jobs if not job.future.done() for digest in job.events}
        if forbidden := claims.ours - allowed:
            await ingested.release(connection, list(forbidden))
        return claims.ours & allowed

    async def authorise(self, subject: Subject, services: Iterable[str]) -> int:
        """Raises Forbidden where `subject` may not publish events of a service; the generation of the grants."""
        live = await self._database.at_least(0)
        seen = seen_by(live, subject)
        for service in sorted(services):
            seen.require(publishing(service))
        return live.generation

    async def _send(self, events: Mapping[Digest, Accepted]) -> dict[Digest, Delivered | Exception]:
        """Send events and wait for their acknowledgements: where each is, or what failed."""
        begun = time.perf_counter()
        by_topic: dict[str, list[Digest]] = {}
        for digest, event in events.items():
            by_topic.setdefault(event.topic, []).append(digest)
        # Each topic by itself, for one that is missing takes those of its call with it.
        sent = [
            await self._sent([_outgoing(events[digest]) for digest in digests])
            for digests in by_topic.values()
        ]
        results: dict[Digest, Delivered | Exception] = {}
        for (topic, digests), together in zip(by_topic.items(), sent, strict=True):
            await asyncio.wrap_future(together.done)
            seconds = time.perf_counter() - begun
            for digest, result in zip(digests, together.results, strict=True):
                results[digest] = result
                if isinstance(result, Delivered):
                    metrics.PRODUCE_SECONDS.labels(topic).observe(seconds)
                else:
                    metrics.PRODUCE_ERRORS.labels(topic, type(result).__name__).inc()
        return results

    async def _sent(self, records: Sequence[Outgoing]) -> SentTogether:
        assert self._producer is not None
        # Few are sent here, unless the producer has to wait: another thread gets its turn late while requests come in.
        few = len(records) <= _FEW
        if few and (sent := self._producer.send_at_once(records)) is not None:
            return sent
        return await asyncio.to_thread(self._producer.send_all, records)

    async def _start(self) -> None:
        """Connect to Kafka, if that was not done. Raises LogUnavailable."""
        if self._producer is None:
            async with self._starting:
                if self._producer is None:
                    await self._pool.open(wait=False)
                    self._producer = await asyncio.to_thread(connect(self._kafka).producer)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        try:
            async with self._pool.connection() as connection:
                yield connection
        except psycopg.errors.UndefinedTable as error:
            raise NotMigrated(remedy="Run mesh migrate, then mesh deploy.") from error
        except (PoolTimeout, psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise IngestUnavailable(remedy="Check that Postgres runs, then send the events again.") from error

    async def _forget(self) -> None:
        if time.monotonic() - self._forgotten < _FORGET:
            return
        self._forgotten = time.monotonic()
        try:
            async with self._connection() as connection:
                while await ingested.forget(connection, self._settings.ingest_window_seconds):
                    pass
        except MeshError as error:
            log.warning("old events are not forgotten", cause=str(error))


async def _checked(
    contracts: Contracts, values: Sequence[bytes], defaults: Mapping[str, str]
) -> list[Accepted | Refusal]:
    if len(values) < 100:
        return [contracts.check(value, defaults) for value in values]
    return await asyncio.to_thread(lambda: [contracts.check(value, defaults) for value in values])


def digest_of(event: Accepted) -> Digest:
    """What stands for the event's source and id."""
    return blake2b(f"{event.source}\0{event.id}".encode(), digest_size=16).hexdigest()


def _outgoing(event: Accepted) -> Outgoing:
    return Outgoing(event.topic, event.key, event.value, event.timestamp_ms, STRUCTURED_HEADERS)


def _answer(job: _Job, places: Mapping[Digest, Published], failures: Mapping[Digest, Exception]) -> None:
    """Where all events of a request are, or what failed of them, if either is known."""
    if job.future.done():
        return
    if failed := next((failures[digest] for digest in job.events if digest in failures), None):
        job.future.set_exception(failed)
    elif all(digest in places for digest in job.events):
        job.future.set_result([places[digest] for digest in job.events])


def _fail(job: _Job, error: Exception) -> None:
    if not job.future.done():
        job.future.set_exception(error)
