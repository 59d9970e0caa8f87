"""Whether an event can be applied, said before it is published."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from mesh_core.contracts import Unknown
from mesh_core.engine.validating import Validating
from mesh_core.errors import UsageError
from mesh_core.log.cloudevents import checked, encode_checked
from mesh_core.model import Catalog
from mesh_core.model.event import topic_of


class EventRefused(UsageError):
    """The event does not fit its contract."""


class Validator:
    """Checks structured CloudEvents by the contracts of a catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._validating = Validating(catalog.entities.values(), catalog.contracts.values())

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
        if topic in self._validating.decoders:
            found = self._validating.read(topic, encode_checked(ready))
            key = str(ready.get("subject") or "").encode()
            if refusal := self._validating.problem(topic, key, found):
                raise EventRefused(f"{ready['type']} {ready['id']}: {': '.join(refusal)}")
        return ready

    def knows(self, event: dict[str, Any]) -> bool:
        """Whether a contract describes the type of what `read` answered."""
        topic = topic_of(event["type"].split(".", 1)[0])
        decoders = self._validating.decoders
        return topic in decoders and not isinstance(decoders[topic].read(encode_checked(event)), Unknown)
