"""Brings one entity version that is being built up to given offsets of the log, outside any group."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mesh_core.engine.errors import DeployRefused
from mesh_core.engine.guard import topic_problem
from mesh_core.engine.resilience import apply_resiliently
from mesh_core.engine.transaction import Applier
from mesh_core.log.interface import Consumer, Driver, TopicFacts
from mesh_core.log.position import TopicPartition
from mesh_core.model.event import Contract
from mesh_core.store import checkpoints, versions
from mesh_core.store.checkpoints import Checkpoint
from mesh_core.store.connections import connect
from mesh_core.store.versions import VersionRow

STALL_SECONDS = 30.0
"""How long a build waits for a record that must be in the log; others may be waiting for it meanwhile."""


@dataclass(frozen=True)
class Builder:
    """Replays the log into building entity versions. `contracts` are of all events of the topics that they read."""

    database_url: str
    driver: Driver
    contracts: Sequence[Contract]

    def check_history(
        self,
        row: VersionRow,
        live: Mapping[TopicPartition, Checkpoint],
        facts: Mapping[str, TopicFacts],
    ) -> None:
        """See that the log still has all that was applied live, from the first record on.

        Raises DeployRefused where it has not, LogUnavailable while Kafka is down.
        """
        there = [p for p in live if p.topic in facts and p.partition < facts[p.topic].partitions]
        consumer = self.driver.consumer(None)
        try:
            starts, ends = consumer.beginning_offsets(there), consumer.end_offsets(there)
        finally:
            consumer.close()
        for topic in sorted({partition.topic for partition in live}):
            rows = [checkpoint for partition, checkpoint in live.items() if partition.topic == topic]
            problem = topic_problem(topic, facts.get(topic), rows, starts, ends)
            if problem is not None:
                raise DeployRefused(
                    f"{row.name} cannot be built: {problem}",
                    remedy="Restore the topic, or start anew with mesh stack reset.",
                )
        cut = sorted((p, offset) for p, offset in starts.items() if offset > 0 and live[p].next_offset > 0)
        if cut:
            said = ", ".join(f"{partition} starts at {offset}" for partition, offset in cut)
            raise DeployRefused(
                f"{row.name} cannot be built: the log no longer has its beginning ({said}).",
                remedy="Publish the missing history again into a new topic.",
            )

    def apply_up_to(self, row: VersionRow, wanted: Mapping[TopicPartition, int]) -> None:
        """Apply records of the log until the checkpoints of the build are at `wanted`.

        Raises DeployRefused when the log does not go on giving them.
        """
        with connect(self.database_url, "mesh build") as connection:
            plan = versions.plan_of(0, [row])
            applier = Applier(connection, plan, {}, row.id, self.contracts)
            standing = {p: c.next_offset for p, c in checkpoints.read(connection, row.topics, row.id).items()}
            behind = {p: standing.get(p, 0) for p, offset in wanted.items() if standing.get(p, 0) < offset}
            if not behind:
                return
            consumer = self.driver.consumer(None)
            try:
                consumer.assign(behind)
                consume(consumer, applier, behind, wanted)
            finally:
                consumer.close()


def consume(
    consumer: Consumer,
    applier: Applier,
    standing: dict[TopicPartition, int],
    wanted: Mapping[TopicPartition, int],
) -> None:
    """Apply what the consumer reads from `standing` on, up to exactly `wanted`.

    Raises DeployRefused after STALL_SECONDS without any progress.
    """
    deadline = time.monotonic() + STALL_SECONDS
    while any(offset < wanted[partition] for partition, offset in standing.items()):
        batches = []
        for chunk in consumer.poll(20_000, 1.0):
            partition = chunk.partition
            if standing[partition] >= wanted[partition]:
                continue
            batch = applier.router.intake.batch(chunk, standing[partition])
            if chunk.next_offset > wanted[partition]:
                count = sum(offset < wanted[partition] for offset in chunk.offsets)
                batch = batch.part(0, count) if count < len(chunk.offsets) else batch
                batch.chunk.next_offset = wanted[partition]
            batches.append(batch)
        if batches:
            standing.update(apply_resiliently(applier, batches).positions)
            deadline = time.monotonic() + STALL_SECONDS
        elif time.monotonic() > deadline:
            raise DeployRefused(
                f"The log gave nothing for {STALL_SECONDS:g} s, though records are missing: "
                f"{', '.join(_missing(standing, wanted))}. {consumer.last_error or ''}".strip(),
                remedy="See that Kafka is well, then deploy again; what serves is untouched.",
            )


def _missing(standing: Mapping[TopicPartition, int], wanted: Mapping[TopicPartition, int]) -> Iterable[str]:
    for partition, offset in sorted(standing.items()):
        if offset < wanted[partition]:
            yield f"{partition} is at {offset} of {wanted[partition]}"
