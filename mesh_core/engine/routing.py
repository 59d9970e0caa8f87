"""Where the events of every topic go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mesh_core.engine.compiled import Route, routes, tombstone_route
from mesh_core.engine.intake import Intake, Tombstone
from mesh_core.model.builtin import MESH_TOPIC, DeadLetterDecided
from mesh_core.store.entity_writes import EntityVersion
from mesh_core.store.lookups import Decision

DECIDED = DeadLetterDecided.type


@dataclass
class Router:
    """Where the events of every topic go, for one set of entity versions."""

    versions: Mapping[str, EntityVersion]
    intake: Intake
    by_struct: dict[str, dict[type, Route]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for topic in self.intake.decoders:
            known = routes(self.versions.values(), topic)
            self.by_struct[topic] = {
                struct: known.get(event_type, Route(event_type, (), False))
                for struct, event_type in self.intake.struct_types(topic).items()
            }
            self.by_struct[topic][Tombstone] = tombstone_route(self.of_topic(topic))

    def of_topic(self, topic: str) -> list[EntityVersion]:
        """The entity versions that a topic feeds."""
        return [version for version in self.versions.values() if version.model.topic == topic]

    def families(self, version: EntityVersion) -> set[str]:
        """The names of the events that an entity folds, without their versions."""
        return {family(fold.contract.type) for fold in version.model.folds}


def family(event_type: str) -> str:
    """The name of an event type without its version."""
    return event_type.rpartition(".v")[0]


def decision_in(item: Any, offset: int, router: Router) -> Decision | None:
    """The decision on a dead letter that an event of mesh.events carries, if it carries one."""
    route = router.by_struct[MESH_TOPIC].get(type(item))
    if route is None or route.event_type != DECIDED:
        return None
    data = item.data
    value = None if data.value is None else data.value.encode()
    return Decision(
        data.letter_topic,
        data.letter_topic_id,
        data.letter_partition,
        data.letter_offset,
        data.action,
        value,
        item.time,
        offset,
    )
