"""The contracts that hold: those of the code, and those that services have registered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mesh_core.contracts import Contracts, SchemaNotUnderstood, contracts_of
from mesh_core.engine.validating import Validating
from mesh_core.log import KafkaConfig, LogUnavailable, connect
from mesh_core.model import Catalog, Contract
from mesh_core.model.builtin import MESH_SERVICE
from mesh_core.model.event import topic_of
from mesh_core.read import Database, registered_contracts
from mesh_core.read.compiler import head_statement
from mesh_core.settings import Settings
from mesh_core.telemetry import get_logger

log = get_logger(__name__)


@dataclass(frozen=True)
class Known:
    """Contracts by event type, as of one generation; those of the code among them, and how events are checked."""

    generation: int
    code: Mapping[str, Contract]
    every: Mapping[str, Contract]
    checking: Contracts
    registered: Mapping[str, Mapping[str, Any]]


class Registry:
    """Reads the code once, and what is registered whenever the generation has risen."""

    def __init__(self, settings: Settings, database: Database, kafka: KafkaConfig) -> None:
        self._settings, self._database = settings, database
        self._kafka = replace(kafka, client_id="flexmesh-registry")
        self._catalog: Catalog | None = None
        self._known: Known | None = None
        self._reading = asyncio.Lock()

    async def known(self, *, surely: bool = False) -> Known:
        """The contracts of the generation in memory, or `surely` those that hold now.

        Raises DeclarationError where the code cannot be loaded, ReadUnavailable, NotMigrated.
        """
        live = await self._database.at_least(0)
        if not surely and self._known is not None and self._known.generation == live.generation:
            return self._known
        async with self._reading:
            if surely and self._known is not None:
                live, _ = await self._database.as_itself.read(lambda _: head_statement((), ()))
                if self._known.generation == live.generation:
                    return self._known
            generation, registered = await registered_contracts(self._database.as_itself)
            if self._known is not None and self._known.registered == registered:
                self._known = replace(self._known, generation=generation)
            else:
                self._known = await asyncio.to_thread(self._made, generation, registered)
            return self._known

    def _made(self, generation: int, registered: Mapping[str, Mapping[str, Any]]) -> Known:
        if self._catalog is None:
            self._catalog = Catalog.load(self._settings.catalog)
        code = self._catalog.contracts
        every = dict(code)
        for service, schemas in sorted(registered.items()):
            try:
                every = {each.type: each for each in contracts_of(service, schemas)} | every
            except SchemaNotUnderstood as error:  # an event that nobody checked
                log.warning("registered contracts are left out", service=service, reason=str(error))
        checked = [each for each in every.values() if each.service != MESH_SERVICE]
        entities = [each for each in self._catalog.entities.values() if each.service != MESH_SERVICE]
        rules = Validating(entities, checked)
        return Known(generation, code, every, Contracts(checked, rules.decoders, rules.problem), registered)

    async def make_topics(self, services: Iterable[str]) -> None:
        """Create the topics of services that are missing. Raises LogUnavailable."""
        await asyncio.to_thread(self._make_topics, [topic_of(service) for service in services])

    def _make_topics(self, names: list[str]) -> None:
        driver = connect(self._kafka)
        if not driver.reachable(3.0):
            raise LogUnavailable(
                remedy="Check that Kafka runs and that MESH_KAFKA_BOOTSTRAP_SERVERS is right."
            )
        with driver.admin() as admin:
            there = admin.describe(names)
            for name in names:
                if name not in there:
                    admin.create_topic(
                        name, self._settings.topic_partitions, self._settings.topic_replication
                    )
