"""The workloads by name, each of one or more parts; their modules say what they are."""

from __future__ import annotations

from collections.abc import Sequence

from bench.harness import Workload
from bench.workloads.ingest import Ingest
from bench.workloads.outbox import Outbox
from bench.workloads.reads import Reads
from bench.workloads.replay import Replays
from bench.workloads.w1 import ContactUpdates
from bench.workloads.w2 import Grown, Joined, three_services
from bench.workloads.w3 import Freshness

WORKLOADS: dict[str, Sequence[Workload]] = {
    "w1": [ContactUpdates()],
    "w2": [Joined(three_services())],
    "w3": [Freshness()],
    "reads": [Reads()],
    "ingest": [Ingest()],
    "outbox": [Outbox()],
    "replay": [Replays()],
    "w4": [Grown(three_services(scale), "w4", f"{scale}x") for scale in (1, 4, 16)],
}
