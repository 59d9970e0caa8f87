"""Whether an event can be applied, said before it is published."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from mesh_core.contracts import Unknown
from mesh_core.engine.intake import Intake
from mesh_core.engine.judging import Judge
from mesh_core.engine.routing import Router
from mesh_core.errors import UsageError
from mesh_core.log.cloudevents import checked, encode_checked
from mesh_core.log.position import TopicPartition
from mesh_core.model import Catalog
from mesh_core.model.event import topic_of
from mesh_core.store.entity_writes import EntityVersion
from mesh_core.store.held import Record


class EventRefused(UsageError):
    """The event does not fit its contract."""


class Validator:
    """Checks structured CloudEvents by the contracts of a catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._intake = Intake(catalog.entities.values(), catalog.contracts.values())
        versions = {
            number: EntityVersion(number, model, model.table)
            for number, model in enumerate(catalog.entities.values())
        }
        self._judge = Judge(Router(versions, self._intake), {})

    def read(self, text: str) -> dict[str, Any]:
        """The event in a JSON text, numbers exact. A type that no contract describes passes.

        Raises EventRefused or EnvelopeError, which name the attribute or field at fault.
        """
        try:
            event = json.loads(text, parse_float=Decimal)
        except (ValueError, RecursionError) as error:
            raise EventRefused(f"It is not JSON: {error}.") from None
        if not isinstance(event, dict):
            raise EventRefused("It is not a JSON object.")
        ready = checked(event)
        topic = topic_of(ready["type"].split(".", 1)[0])
        if topic in self._intake.decoders:
            found = self._intake.read(topic, encode_checked(ready))
            if refusal := self._refusal(topic, ready, found):
                raise EventRefused(f"{ready['type']} {ready['id']}: {': '.join(refusal)}")
        return ready

    def _refusal(self, topic: str, event: dict[str, Any], found: Any) -> tuple[str, str] | None:
        """(reason, detail) why a projector would make a dead letter of the event, or None."""
        key = str(event.get("subject") or "").encode()
        record = Record(TopicPartition(topic, 0), 0, 0, key, None, ())
        problems = (self._judge.problem(record, found, fold) for fold in self._judge.folds(record, found))
        return self._judge.refusal(record, found) or next(filter(None, problems), None)

    def knows(self, event: dict[str, Any]) -> bool:
        """Whether a contract describes the type of what `read` answered."""
        topic = topic_of(event["type"].split(".", 1)[0])
        decoders = self._intake.decoders
        return topic in decoders and not isinstance(decoders[topic].read(encode_checked(event)), Unknown)
