"""Sees a consumer's group joins through, which kafka-python 3.0.12 does not if they outlast a poll."""

from __future__ import annotations

from typing import Any

from kafka import errors as kafka_errors


class Joining:
    """The join that one KafkaConsumer is in, if any.

    A join that is not over when `KafkaConsumer.poll` returns gets lost: if news of partitions caused it,
    kafka-python forgets to go on (the leader's own assignment makes the news old), and reads nothing for
    ever; if it ends between two polls, kafka-python begins it anew, which disturbs the whole group. So from
    then on it runs on kafka-python's IO thread, whether somebody polls or not.
    """

    def __init__(self, consumer: Any) -> None:
        """`consumer`: a KafkaConsumer with a group."""
        self._coordinator = consumer._coordinator
        self._manager = consumer._manager
        self._net = consumer._net
        self._task: Any = None

    def take_over(self) -> None:
        """After each poll: see to it that a join that is under way ends."""
        if self._task is None and self._coordinator.rejoining:
            self._coordinator.request_rejoin()
            self._task = self._manager.call_soon(self._coordinator.ensure_active_group_async, None)

    def over(self, wait: float) -> bool:
        """Before each poll, which must not be while this is False; waits for up to `wait` seconds.

        Raises KafkaError if the group refuses this consumer.
        """
        if self._task is None:
            return True
        try:
            self._net.run(self._manager.wait_for, self._task, wait * 1000)
        except kafka_errors.KafkaTimeoutError:
            if not self._task.is_done:
                return False
        except kafka_errors.KafkaError:
            self._task = None
            raise
        self._task = None
        return True
