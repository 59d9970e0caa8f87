"""Where the events of every topic go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mesh_core.engine.compiled import Route, routes, tombstone_route
from mesh_core.engine.intake import Intake, Tombstone
from mesh_core.model.builtin import BUILT_IN_EVENTS, MESH_TOPIC, DeadLetterDecided
from mesh_core.model.event import Contract, family
from mesh_core.store.entity_writes import EntityVersion
from mesh_core.store.lookups import Decision

DECIDED = DeadLetterDecided.type


@dataclass
class Router:
    """Where the events of every topic go, for one set of entity versions.

    Two versions may know different contracts of one event type; then they have routers of their own, since one
    decoder knows one contract a type.
    """

    versions: Mapping[int, EntityVersion]
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


BUILT_IN = tuple(event.contract for event in BUILT_IN_EVENTS)


def routers(versions: Iterable[EntityVersion], contracts: Iterable[Contract] = BUILT_IN) -> list[Router]:
    """The routers of these versions. The first one has the first of them, and also knows `contracts`."""
    groups: list[tuple[dict[str, Contract], list[EntityVersion]]] = [({}, [])]
    for version in versions:
        mine = {fold.contract.type: fold.contract for fold in version.model.folds}
        for known, members in groups:
            if all(known.get(name, contract) == contract for name, contract in mine.items()) and not any(
                other.topic == contract.topic and other.foreign != contract.foreign
                for other in known.values()
                for contract in mine.values()
            ):
                known |= mine
                members.append(version)
                break
        else:
            groups.append((mine, [version]))
    also = list(contracts)
    return [
        Router(
            {version.id: version for version in members},
            Intake([v.model for v in members], () if n else also),
        )
        for n, (_, members) in enumerate(groups)
    ]


def decision_in(item: Any, offset: int, router: Router) -> Decision | None:
    """The decision on a dead letter that an event of mesh.events carries, if it carries one."""
    route = router.by_struct.get(MESH_TOPIC, {}).get(type(item))
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
