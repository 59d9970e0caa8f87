"""`Subscriber`: handlers of events, each called in the transaction that moves the checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar

import psycopg

from mesh_core.emit.subscriber import letters
from mesh_core.emit.subscriber.effects import AnyHandler, Effects
from mesh_core.emit.subscriber.events import Reading, Received
from mesh_core.emit.subscriber.letters import Letter
from mesh_core.emit.subscriber.session import Session
from mesh_core.emit.subscriber.store import subscriber_sql
from mesh_core.errors import UsageError
from mesh_core.log import Driver
from mesh_core.model import Event
from mesh_core.store.connections import connect

E = TypeVar("E", bound=Event)
Handler = Callable[[Received[E], psycopg.Connection[Any]], None]


class Subscriber:
    """Calls the handlers of a service with the events that it asked for, in order per key.

    >>> billing = Subscriber("billing", database_url, driver)  # doctest: +SKIP
    >>> @billing.on(CustomerRegistered)
    ... def keep(received, connection):
    ...     connection.execute("INSERT INTO customers VALUES (%s, %s)", (received.key, received.event.name))
    >>> billing.run()

    What a handler writes on `connection` is committed with the checkpoint, so that it takes effect once, whatever is
    redelivered, killed or shared by several processes of the same name. An event that repeats or goes back in
    `sequence` is left out. A handler that raises EventRefused, or meets bad data in Postgres (SQLSTATE classes 22, 23,
    54), makes the event a dead letter, as does a record that does not keep its contract: it is kept whole in
    `subscription_letters`, and what follows of its key is parked behind it until `retry` or `discard`. While Postgres
    or Kafka is away it waits; any other error ends `run`, with nothing of the batch committed.
    """

    def __init__(self, name: str, database_url: str, driver: Driver) -> None:
        """`name` is that of the consumer group, too: processes with the same name share the partitions."""
        self._name, self._url, self._driver = name, database_url, driver
        self._handlers: dict[str, AnyHandler] = {}
        self._events: list[type[Event]] = []
        self._stopping = threading.Event()

    def on(self, event: type[E]) -> Callable[[Handler[E]], Handler[E]]:
        """Decorates the handler of a type of event. Raises UsageError if it has one."""
        if event.foreign is not None:
            raise UsageError(
                f"{event.type} is read from {event.topic}, which others write as they do.",
                remedy="Project it, and read the view; or subscribe to events of the mesh.",
            )

        def add(handler: Handler[E]) -> Handler[E]:
            if event.type in self._handlers:
                raise UsageError(f"{event.type} has a handler already.", remedy="Do both in one handler.")
            self._handlers[event.type] = handler
            self._events.append(event)
            return handler

        return add

    def create_tables(self) -> None:
        """Make the tables of `subscriber_sql` where they are missing."""
        with closing(self._connect()) as connection, connection.transaction():
            connection.execute(subscriber_sql())

    def run(self, *, until_end: bool = False) -> None:
        """Until `stop`; with `until_end`, until what is in the log now has had its effects.

        Raises SubscriberStopped where a topic is not what it was, and whatever a handler raises that is neither bad data
        nor passing.
        """
        if not self._events:
            raise UsageError("The subscriber has no handlers.", remedy="Decorate some with `on`.")
        Session(self._url, self._driver, self._effects(), self._stopping).run(until_end)

    def stop(self) -> None:
        """Finish the batch at hand and leave; safe from any thread and from a signal's handler."""
        threading.Thread(target=self._stopping.set, daemon=True).start()

    def letters(self, limit: int = 1000) -> list[Letter]:
        """What was refused, and what is parked behind it, in the order of the log."""
        with closing(self._connect()) as connection:
            return letters.kept(connection, self._name, limit=limit)

    def retry(self, letter: Letter) -> bool:
        """Handle a refused record anew, then what is parked behind it; whether all of it took effect."""
        return self._decide(letter, discard=False)

    def discard(self, letter: Letter) -> bool:
        """Forget a refused record, and handle what is parked behind it; whether all of that took effect."""
        return self._decide(letter, discard=True)

    def _decide(self, letter: Letter, *, discard: bool) -> bool:
        if letter.reason is None:
            raise UsageError("The record is parked, not refused.", remedy="Decide on the one before it.")
        with closing(self._connect()) as connection:
            return self._effects().decide(connection, letter, discard)

    def _effects(self) -> Effects:
        return Effects(self._name, self._handlers, Reading(self._events))

    def _connect(self) -> psycopg.Connection[Any]:
        return connect(self._url, f"subscriber {self._name}")
