"""The workloads by name; each module says what its workload is."""

from __future__ import annotations

from bench.harness import Workload
from bench.workloads.w1 import ContactUpdates

WORKLOADS: dict[str, Workload] = {"w1": ContactUpdates()}
