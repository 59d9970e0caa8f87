"""Plans and deploys of the API: those of `mesh plan` and `mesh deploy`, with its settings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from mesh_core.engine.announcing import Request, announce
from mesh_core.engine.deploy_report import Topics, Wishes
from mesh_core.engine.estimating import Estimate, estimate
from mesh_core.log import Driver, KafkaConfig, LogUnavailable, connect
from mesh_core.log.archive import with_archive
from mesh_core.model import Catalog
from mesh_core.read.failures import as_mesh_error
from mesh_core.settings import Settings


class Deploying:
    """Connects at the first plan or deploy, so that reads are served while Kafka is away."""

    def __init__(self, settings: Settings, database_url: str, config: KafkaConfig) -> None:
        self._settings, self._database_url, self._config = settings, database_url, config

    async def catalog(self) -> Catalog:
        """What the code declares. Raises DeclarationError."""
        return await asyncio.to_thread(self._code)

    async def plan(self) -> Estimate:
        """What a deploy would do now. Raises DeclarationError, LogUnavailable, NotMigrated, DependencyUnavailable."""
        return await asyncio.to_thread(self._estimate)

    async def deploy(self, wishes: Wishes, by: str) -> int:
        """Begin a deploy; its number. Raises TooManyDeploys, LogUnavailable, NotMigrated, DependencyUnavailable."""
        return await asyncio.to_thread(self._announce, wishes, by)

    def _estimate(self) -> Estimate:
        with _told():
            return estimate(self._database_url, self._code(), self._reachable_driver())

    def _announce(self, wishes: Wishes, by: str) -> int:
        topics = Topics(self._settings.topic_partitions, self._settings.topic_replication)
        driver = self._reachable_driver()
        with _told():
            return announce(Request(self._database_url, self._code, driver, topics, wishes, by))

    def _code(self) -> Catalog:
        return Catalog.load(self._settings.catalog)

    def _reachable_driver(self) -> Driver:
        driver = connect(self._config)
        if not driver.reachable(3.0):
            raise LogUnavailable(
                remedy="Check that Kafka runs and that MESH_KAFKA_BOOTSTRAP_SERVERS is right."
            )
        return with_archive(driver, self._settings.archive)


@contextmanager
def _told() -> Iterator[None]:
    """Errors of Postgres become those that have a remedy."""
    try:
        yield
    except Exception as error:
        if (known := as_mesh_error(error)) is None:
            raise
        raise known from error
