"""Reading the log as it is, outside any group: nothing is committed, nobody is disturbed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from uuid import UUID

import msgspec
import typer

from mesh_core.cli.surroundings import Surroundings
from mesh_core.engine.intake import structured_value
from mesh_core.errors import UsageError
from mesh_core.log import EnvelopeError, TopicPartition
from mesh_core.log.interface import Headers
from mesh_core.model import Catalog
from mesh_core.model.event import topic_of


class _Facts(msgspec.Struct):
    """What filters look at."""

    type: str = ""
    workflowid: str = ""


@dataclass(frozen=True)
class Wanted:
    """Filters; an empty one lets everything through."""

    services: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    workflow: UUID | None = None

    def takes(self, event: bytes) -> bool:
        """Whether an event passes. Raises msgspec.DecodeError if it is not JSON."""
        facts = msgspec.json.decode(event, type=_Facts)
        return self.passes(facts.type, facts.workflowid)

    def passes(self, kind: str, workflow: str) -> bool:
        """Whether an event of this type and workflow passes; of what has none, they are empty."""
        return (not self.types or any(fnmatchcase(kind, pattern) for pattern in self.types)) and (
            self.workflow is None or workflow.lower() == str(self.workflow)
        )


def events(mesh: Surroundings, wanted: Wanted, *, from_beginning: bool, follow: bool) -> Iterator[str]:
    """Events as compact JSON, from the beginning of the log or from its end; for ever, if it is to follow."""
    driver = mesh.reachable_driver()
    names = _topics(mesh, wanted)
    with driver.admin() as admin:
        facts = admin.describe(names)
    missing = sorted(set(names) - set(facts))
    if missing and (wanted.services or not facts):
        raise UsageError(
            f"There is no topic {', '.join(missing)}.",
            remedy="Check the service's name; a deploy makes the topics of all services in the catalog.",
        )
    partitions = [TopicPartition(topic.name, n) for topic in facts.values() for n in range(topic.partitions)]
    with driver.consumer() as consumer:
        ends = consumer.end_offsets(partitions)
        start = consumer.beginning_offsets(partitions) if from_beginning else ends
        consumer.assign(start)
        at = dict(start)
        while follow or any(at[partition] < end for partition, end in ends.items()):
            for chunk in consumer.poll(1000, 0.5):
                at[chunk.partition] = chunk.next_offset
                for n, value in enumerate(chunk.values):
                    headers: Headers = chunk.headers[n] if chunk.headers else ()
                    line = _line(f"{chunk.partition} offset {chunk.offsets[n]}", headers, value, wanted)
                    if line is not None:
                        yield line


def _topics(mesh: Surroundings, wanted: Wanted) -> list[str]:
    if wanted.services:
        return [topic_of(service) for service in wanted.services]
    contracts = Catalog.load(mesh.settings.catalog).contracts.values()
    return sorted({contract.topic for contract in contracts})


def _line(place: str, headers: Headers, value: bytes | None, wanted: Wanted) -> str | None:
    """The event as one line, if it is wanted; what is no event is told on standard error."""
    if value is None:
        typer.echo(f"{place}: no value", err=True)
        return None
    try:
        event = structured_value(headers, value)
        if not wanted.takes(event):
            return None
        return msgspec.json.format(event, indent=-1).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, EnvelopeError) as error:
        typer.echo(f"{place}: not a CloudEvent in JSON: {error}", err=True)
        return None
