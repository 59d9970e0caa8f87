"""Every metric, in one place. docs/reference/metrics.md lists them; a test compares the two.

Names read `mesh_<part>_<what>_<unit>`; counters end in `_total`. Labels have few values: a topic, a
partition, a route, never a key or an id.
"""

from __future__ import annotations

from time import perf_counter
from types import TracebackType
from typing import Literal, Self, get_args

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_RECORDS = (1, 10, 100, 500, 1_000, 5_000, 10_000, 50_000, 100_000)

# ---- projector: consumed = applied + ignored + dead_lettered + parked, once committed

CONSUMED = Counter("mesh_projector_events_consumed", "Records consumed.", ["topic"])
APPLIED = Counter("mesh_projector_events_applied", "Events folded into rows.", ["topic"])
IGNORED = Counter("mesh_projector_events_ignored", "Events that changed nothing.", ["topic"])
DEAD_LETTERED = Counter("mesh_projector_events_dead_lettered", "Events refused and kept.", ["topic"])
PARKED = Counter("mesh_projector_events_parked", "Events held behind a dead letter.", ["topic"])

STAGE_SECONDS = Histogram(
    "mesh_projector_stage_seconds", "Time of one stage of one batch.", ["stage"], buckets=_SECONDS
)
BATCH_RECORDS = Histogram("mesh_projector_batch_records", "Records in one transaction.", buckets=_RECORDS)

LAG_EVENTS = Gauge(
    "mesh_projector_lag_events", "Records in the log past the checkpoint.", ["topic", "partition"]
)
LAG_SECONDS = Gauge(
    "mesh_projector_lag_seconds",
    "Age of the oldest record past the checkpoint; 0 when caught up.",
    ["topic", "partition"],
)
HALTED = Gauge("mesh_projector_halted_partitions", "Owned partitions that are halted.", ["topic"])
RETRIES = Counter("mesh_projector_retries", "Transactions tried again, by what failed.", ["cause"])
REBALANCES = Counter("mesh_projector_rebalances", "Changes of the partitions owned.", ["change"])

# ---- log

PRODUCE_SECONDS = Histogram(
    "mesh_log_produce_seconds", "From sending a record to its acknowledgement.", ["topic"], buckets=_SECONDS
)
PRODUCE_ERRORS = Counter("mesh_log_produce_errors", "Records that were not acknowledged.", ["topic", "error"])

# ---- api

REQUESTS = Counter("mesh_api_requests", "Requests answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "mesh_api_request_seconds", "From a request to the end of its answer.", ["route"], buckets=_SECONDS
)

ALL = (
    CONSUMED,
    APPLIED,
    IGNORED,
    DEAD_LETTERED,
    PARKED,
    STAGE_SECONDS,
    BATCH_RECORDS,
    LAG_EVENTS,
    LAG_SECONDS,
    HALTED,
    RETRIES,
    REBALANCES,
    PRODUCE_SECONDS,
    PRODUCE_ERRORS,
    REQUESTS,
    REQUEST_SECONDS,
)

Stage = Literal["poll", "decode", "fold", "copy", "entities", "views", "commit"]
"""The steps of a batch: wait for records, read envelopes, fold per key, COPY to staging, write entity rows,
refresh view rows, commit."""

_STAGES = {name: STAGE_SECONDS.labels(name) for name in get_args(Stage)}


class stage:  # noqa: N801  # reads as a verb: `with stage("fold"):`
    """Times a stage of a batch, also when it raises; about a microsecond."""

    __slots__ = ("_histogram", "_started")

    def __init__(self, name: Stage) -> None:
        self._histogram = _STAGES[name]

    def __enter__(self) -> Self:
        self._started = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._histogram.observe(perf_counter() - self._started)
