"""Every metric, in one place. docs/reference/metrics.md lists them; a test compares the two.

A process exposes a registry of its own, and so nothing that it never fills. What publishing measures is in
prometheus_client's default registry too, for services that publish.

Names read `mesh_<part>_<what>_<unit>`; counters end in `_total`. Labels have few values: a topic, a
partition, a route, never a key or an id.
"""

from __future__ import annotations

from time import perf_counter
from types import TracebackType
from typing import Literal, Self, get_args

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_RECORDS = (1, 10, 100, 500, 1_000, 5_000, 10_000, 50_000, 100_000)


def _registry() -> CollectorRegistry:
    """A registry with what prometheus_client tells of any process."""
    registry = CollectorRegistry()
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    return registry


PROJECTOR = _registry()
"""What a projector exposes."""
API = _registry()
"""What the API exposes, which publishes too."""
RELAY = _registry()
"""What a relay exposes, which publishes too."""

# ---- projector: consumed = applied + ignored + dead_lettered + parked, once committed

CONSUMED = Counter("mesh_projector_events_consumed", "Records consumed.", ["topic"], registry=PROJECTOR)
APPLIED = Counter("mesh_projector_events_applied", "Events folded into rows.", ["topic"], registry=PROJECTOR)
IGNORED = Counter(
    "mesh_projector_events_ignored", "Events that changed nothing.", ["topic"], registry=PROJECTOR
)
DEAD_LETTERED = Counter(
    "mesh_projector_events_dead_lettered", "Events refused and kept.", ["topic"], registry=PROJECTOR
)
PARKED = Counter(
    "mesh_projector_events_parked", "Events held behind a dead letter.", ["topic"], registry=PROJECTOR
)

STAGE_SECONDS = Histogram(
    "mesh_projector_stage_seconds",
    "Time of one stage of one batch.",
    ["stage"],
    buckets=_SECONDS,
    registry=PROJECTOR,
)
BATCH_RECORDS = Histogram(
    "mesh_projector_batch_records", "Records in one transaction.", buckets=_RECORDS, registry=PROJECTOR
)

LAG_EVENTS = Gauge(
    "mesh_projector_lag_events",
    "Records in the log past the checkpoint.",
    ["topic", "partition"],
    registry=PROJECTOR,
)
LAG_SECONDS = Gauge(
    "mesh_projector_lag_seconds",
    "Age of the oldest record past the checkpoint; 0 when caught up.",
    ["topic", "partition"],
    registry=PROJECTOR,
)
HALTED = Gauge(
    "mesh_projector_halted_partitions", "Owned partitions that are halted.", ["topic"], registry=PROJECTOR
)
FAN_OUTS = Gauge(
    "mesh_projector_fan_outs",
    "Places in views where changes of many rows wait to be drained.",
    registry=PROJECTOR,
)
RETRIES = Counter(
    "mesh_projector_retries", "Transactions tried again, by what failed.", ["cause"], registry=PROJECTOR
)
REBALANCES = Counter(
    "mesh_projector_rebalances", "Changes of the partitions owned.", ["change"], registry=PROJECTOR
)

# ---- log: whatever publishes

PRODUCE_SECONDS = Histogram(
    "mesh_log_produce_seconds", "From sending a record to its acknowledgement.", ["topic"], buckets=_SECONDS
)
PRODUCE_ERRORS = Counter("mesh_log_produce_errors", "Records that were not acknowledged.", ["topic", "error"])

API.register(PRODUCE_SECONDS)
API.register(PRODUCE_ERRORS)

# ---- relay

RELAY_PUBLISHED = Counter(
    "mesh_relay_events_published", "Events that Kafka acknowledged.", ["service"], registry=RELAY
)
RELAY_REFUSED = Counter(
    "mesh_relay_events_refused", "Rows that cannot be published.", ["service"], registry=RELAY
)
RELAY_WAITING = Gauge(
    "mesh_relay_waiting_events",
    "Rows that wait to be published; counted up to 100,000.",
    ["service"],
    registry=RELAY,
)
RELAY_HELD = Gauge(
    "mesh_relay_refused_rows",
    "Rows that are refused; those of their aggregates wait.",
    ["service"],
    registry=RELAY,
)
RELAY_LAG_SECONDS = Gauge(
    "mesh_relay_lag_seconds",
    "Age of the oldest row that waits; 0 when none does.",
    ["service"],
    registry=RELAY,
)
RELAY_RETRIES = Counter(
    "mesh_relay_retries", "Times that a relay waited and began anew.", ["service"], registry=RELAY
)

# ---- api

REQUESTS = Counter("mesh_api_requests", "Requests answered.", ["method", "route", "status"], registry=API)
REQUEST_SECONDS = Histogram(
    "mesh_api_request_seconds",
    "From a request to the end of its answer.",
    ["route"],
    buckets=_SECONDS,
    registry=API,
)

Stage = Literal["poll", "decode", "fold", "copy", "entities", "views", "commit", "drain"]
"""The steps of a batch: wait for records, read envelopes, fold per key, stage rows, write entity rows, refresh view
rows, commit; and a chunk of the fan-out queue, between batches. Of a small batch, what Postgres does is in the step that
waits for it: views, or commit."""

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
