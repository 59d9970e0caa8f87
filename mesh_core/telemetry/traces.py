"""Traces through Kafka and HTTP, by OpenTelemetry's API: nothing is recorded unless an SDK is set up.

Span names and attributes follow the OpenTelemetry semantic conventions for messaging; a trace travels as W3C
Trace Context (`traceparent`), as an extension attribute of events and a header of requests.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice

from opentelemetry import trace
from opentelemetry.trace import Span, SpanContext, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_NO_SPAN = nullcontext(trace.INVALID_SPAN)
_MAX_LINKS = 128  # what the SDK keeps by default


def is_traceparent(text: str) -> bool:
    """Whether `text` is a version-00 style `traceparent` with ids that are not all zero."""
    return not text.startswith("ff") and _TRACEPARENT.fullmatch(text) is not None


def trace_id_of(traceparent: str) -> str | None:
    """The trace id, 32 hexadecimal digits; None if it is not a `traceparent`."""
    return traceparent[3:35] if is_traceparent(traceparent) else None


def new_traceparent() -> str:
    """The `traceparent` of a new trace that is not sampled."""
    digits = secrets.token_hex(24)
    return f"00-{digits[:32]}-{digits[32:]}-00"


@contextmanager
def send_span(topic: str, traceparent: str | None = None) -> Iterator[str | None]:
    """A span `send {topic}`; gives the `traceparent` to put on the event, None if there is no trace."""
    with _span(f"send {topic}", SpanKind.PRODUCER, traceparent, _messaging(topic, "send")) as span:
        yield _traceparent_of(span) or traceparent


@contextmanager
def process_span(topic: str, traceparents: Iterable[str] = (), *, records: int = 1) -> Iterator[None]:
    """A span `process {topic}` over a batch of `records`, linked to the traces of the events in it.

    `traceparents` is only read where the span is recorded, so a generator costs nothing otherwise.
    """
    attributes = _messaging(topic, "process") | {"messaging.batch.message_count": records}
    with _span(f"process {topic}", SpanKind.CONSUMER, None, attributes) as span:
        if span.is_recording():
            for traceparent in islice(traceparents, _MAX_LINKS):
                context = _context_of(traceparent)
                if context.is_valid:
                    span.add_link(context)
        yield


def request_span(name: str, traceparent: str | None = None) -> AbstractContextManager[Span]:
    """A span of a served request, a child of the caller's."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return _NO_SPAN  # nobody collects spans; making one takes a tenth of a small read
    return _span(name, SpanKind.SERVER, traceparent, {})


@contextmanager
def _span(
    name: str, kind: SpanKind, traceparent: str | None, attributes: Mapping[str, str | int]
) -> Iterator[Span]:
    parent = _PROPAGATOR.extract({"traceparent": traceparent}) if traceparent else None
    tracer = trace.get_tracer("mesh_core")
    with tracer.start_as_current_span(name, parent, kind, attributes) as span:
        yield span


def _messaging(topic: str, operation: str) -> dict[str, str | int]:
    return {
        "messaging.system": "kafka",
        "messaging.destination.name": topic,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
    }


def _context_of(traceparent: str) -> SpanContext:
    return trace.get_current_span(_PROPAGATOR.extract({"traceparent": traceparent})).get_span_context()


def _traceparent_of(span: Span) -> str | None:
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
    return carrier.get("traceparent")
