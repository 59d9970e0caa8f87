"""Sees a consumer's group joins through, and reads on meanwhile, which kafka-python 3.0.12 does not."""

from __future__ import annotations

from math import inf
from typing import Any

from kafka.structs import MemberState


class Joining:
    """Takes the place of `ConsumerCoordinator.poll` and of its `_do_join_and_sync_async` in one KafkaConsumer.

    A join lasts until every member has polled. kafka-python's own `poll`

    - returns no records until it is over, also of partitions that stay;
    - forgets a join that news of partitions caused (the leader's own assignment makes the news old);
    - begins a join anew that was answered between two polls, which disturbs the whole group;
    - sends no heartbeat from that answer to the next poll;
    - keeps what it owned when the answer is that the group has forgotten this member.

    What is owned changes only within `poll`, so never while records are being taken out of what was fetched.
    """

    def __init__(self, consumer: Any) -> None:
        """`consumer`: a KafkaConsumer with a group."""
        self._coordinator = coordinator = consumer._coordinator
        self._subscription = consumer._subscription
        self._attempt = coordinator._do_join_and_sync_async
        coordinator.poll, coordinator._do_join_and_sync_async = self.poll, self._join
        coordinator.time_to_next_poll = lambda: inf  # heartbeats need no poll; it would be 0 while joining

    def poll(self, timeout_ms: float | None = None) -> bool:
        """Get on with a join, if one is needed; False if nothing can be read yet.

        Waits only if nothing is owned. Raises KafkaError if the group refuses this consumer.
        """
        coordinator = self._coordinator
        coordinator._invoke_completed_offset_commit_callbacks()
        if coordinator.need_rejoin() or coordinator.rejoining:
            coordinator.request_rejoin()
            if coordinator._join_task is not None:
                coordinator._join_task = _Answer(coordinator._join_task)
            owned = bool(self._subscription.assigned_partitions())
            if not coordinator.ensure_active_group(0 if owned else timeout_ms) and not owned:
                return False
        coordinator.poll_heartbeat()
        return True

    async def _join(self) -> Any:
        """One attempt, on the IO thread."""
        coordinator = self._coordinator
        if coordinator._generation.is_lost() and self._subscription.assigned_partitions():
            await coordinator._on_join_prepare_async(-1, "")
        answer = await self._attempt()
        coordinator.state = MemberState.STABLE
        coordinator._enable_heartbeat()
        return answer


class _Answer:
    """A join that is not done before its answer was looked at."""

    is_done = False

    def __init__(self, task: Any) -> None:
        self.add_callback, self.add_errback = task.add_callback, task.add_errback
