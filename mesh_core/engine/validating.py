"""Whether entities can apply an event, said before it is published, by the rules that projectors go by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mesh_core.contracts.decoding import TopicDecoder
from mesh_core.engine.intake import Intake
from mesh_core.engine.judging import Judge, Why
from mesh_core.engine.routing import Router
from mesh_core.log.position import TopicPartition
from mesh_core.model.entity import EntityModel
from mesh_core.model.event import Contract
from mesh_core.store.entity_writes import EntityVersion
from mesh_core.store.held import Record


class Validating:
    """Judges events by entities and contracts that need not be deployed."""

    def __init__(self, entities: Iterable[EntityModel], contracts: Iterable[Contract]) -> None:
        models = list(entities)
        self._intake = Intake(models, contracts)
        versions = {number: EntityVersion(number, model, model.table) for number, model in enumerate(models)}
        self._judge = Judge(Router(versions, self._intake), {})

    @property
    def decoders(self) -> Mapping[str, TopicDecoder]:
        """Those of each topic."""
        return self._intake.decoders

    def read(self, topic: str, value: bytes) -> Any:
        """What a record's value says: an event, a Refusal or an Unknown."""
        return self._intake.read(topic, value)

    def problem(self, topic: str, key: bytes, found: Any) -> Why | None:
        """Why a projector would make a dead letter of what `read` or the topic's decoder has found, or None."""
        record = Record(TopicPartition(topic, 0), 0, 0, key, None, ())
        if (refused := self._judge.refusal(record, found)) is not None:
            return refused
        problems = (self._judge.problem(record, found, fold) for fold in self._judge.folds(record, found))
        return next(filter(None, problems), None)
