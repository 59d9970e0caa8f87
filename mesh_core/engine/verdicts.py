"""What one record came to: an outcome for each entity version, and how it counts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from mesh_core.store.held import HeldRow, Record, text_of_headers

STATUS_OUTCOME = {"dead": "dead_lettered", "parked": "parked"}
SEVERITY = {"ignored": 0, "applied": 1, "parked": 2, "dead_lettered": 3}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an event that is held."""

    event_type: str | None
    event_id: str | None


BEHIND = ("behind", "An earlier event of this key is a dead letter.")
NOBODY = 0
"""In place of a version id, for what no entity folds."""


@dataclass
class Verdict:
    """What a record came to, by version id. It counts by what it came to for the versions `counted`."""

    record: Record
    counted: Collection[int]
    outcomes: dict[int, str] = field(default_factory=dict)
    held: list[tuple[Record, int, Literal["dead", "parked"], tuple[str, str], Facts, bytes | None]] = field(
        default_factory=list
    )

    def hold(
        self,
        record: Record,
        version: int,
        status: Literal["dead", "parked"],
        why: tuple[str, str],
        facts: Facts,
        edited: bytes | None,
    ) -> None:
        """Hold the record for a version, under the key by which that reads it."""
        self.outcomes[version] = STATUS_OUTCOME[status]
        self.held.append((record, version, status, why, facts, edited))

    @property
    def worst(self) -> str:
        """The outcome that the record counts under."""
        return worst(outcome for version, outcome in self.outcomes.items() if self._counts(version))

    @property
    def otherwise(self) -> str:
        """The worst outcome for versions that do not hold it."""
        return worst(
            outcome
            for version, outcome in self.outcomes.items()
            if self._counts(version) and SEVERITY[outcome] < SEVERITY["parked"]
        )

    def _counts(self, version: int) -> bool:
        return version == NOBODY or version in self.counted

    def holds(self, topic_id: str, counted: str) -> Iterator[HeldRow]:
        """Rows of mesh.held_events for the versions that hold it."""
        for record, version, status, (reason, detail), facts, edited in self.held:
            yield HeldRow(
                record.partition.topic,
                record.partition.partition,
                record.offset,
                version,
                topic_id,
                status,
                record.text_key,
                reason,
                storable(detail),
                record.key,
                record.value,
                edited,
                text_of_headers(record.headers),
                record.timestamp,
                None if facts.event_type is None else storable(facts.event_type),
                None if facts.event_id is None else storable(facts.event_id),
                1,
                self.otherwise,
                counted,
            )


def worst(outcomes: Iterable[str]) -> str:
    """The outcome that a record counts under, given what it came to for each entity."""
    return max(outcomes, key=SEVERITY.__getitem__, default="ignored")


def storable(text: str) -> str:
    """Text from a record as Postgres can store it."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
