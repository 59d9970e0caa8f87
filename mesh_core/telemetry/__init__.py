"""What a running mesh tells of itself: log lines, metrics and traces.

`configure_logging` and `bound` for lines with correlation, workflow and trace ids; `metrics` has every metric
name; `stage` times a step of the projector; `send_span` and `process_span` carry a trace through Kafka.
"""

from mesh_core.telemetry import metrics
from mesh_core.telemetry.exposition import MetricsPortTaken, metrics_served, serve_metrics
from mesh_core.telemetry.logs import Ids, bound, configure_logging, current, get_logger
from mesh_core.telemetry.metrics import Stage, stage
from mesh_core.telemetry.traces import (
    is_traceparent,
    new_traceparent,
    process_span,
    request_span,
    send_span,
    trace_id_of,
)

__all__ = [
    "Ids",
    "MetricsPortTaken",
    "Stage",
    "bound",
    "configure_logging",
    "current",
    "get_logger",
    "is_traceparent",
    "metrics",
    "metrics_served",
    "new_traceparent",
    "process_span",
    "request_span",
    "send_span",
    "serve_metrics",
    "stage",
    "trace_id_of",
]
