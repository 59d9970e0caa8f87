"""Log lines: JSON with the ids of what they belong to, readable on a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from mesh_core.telemetry.traces import trace_id_of

IDS = ("correlation_id", "workflow_id", "trace_id")
"""In every JSON line; null where a line belongs to none."""

# Clients that tell of every reconnection; our own lines say what it means.
_CHATTY = ("kafka", "asyncio", "uvicorn.access", "httpx", "alembic")


class LogSettings(Protocol):
    """The part of the settings that says how to log."""

    @property
    def log_level(self) -> str:
        """Least severe line: debug, info, warning or error."""

    @property
    def log_format(self) -> str:
        """auto, json or console."""


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids that the running code is bound to."""

    correlation_id: str | None = None
    workflow_id: str | None = None
    traceparent: str | None = None


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger; `log.info("batch applied", topic=…, events=…)`: a constant message, facts as values."""
    return cast(FilteringBoundLogger, structlog.get_logger(name))


def configure_logging(settings: LogSettings) -> None:
    """Send all lines of this process, those of libraries included, to standard error in one format.

    `log_format` auto is readable where standard error is a terminal, JSON elsewhere. May be called again.
    """
    readable = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    level = logging.getLevelName(settings.log_level.upper())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.UnicodeDecoder(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_logger,
        cache_logger_on_first_use=False,
    )
    final: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if readable
        else [
            _all_ids,
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ]
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    # It warns of every statement that was skipped after one that failed, which is raised anyway.
    logging.getLogger("psycopg").setLevel(max(level, logging.ERROR))


@contextmanager
def bound(
    *, correlation_id: str | None = None, workflow_id: str | None = None, traceparent: str | None = None
) -> Iterator[None]:
    """Lines logged inside, on this thread or task, carry these ids besides those bound outside."""
    given = {"correlation_id": correlation_id, "workflow_id": workflow_id, "traceparent": traceparent}
    values = {name: value for name, value in given.items() if value is not None}
    if traceparent is not None and (trace_id := trace_id_of(traceparent)):
        values["trace_id"] = trace_id
    with structlog.contextvars.bound_contextvars(**values):
        yield


def current() -> Ids:
    """What `bound` has bound here, for an event or a request that goes out."""
    values: dict[str, Any] = structlog.contextvars.get_contextvars()
    return Ids(values.get("correlation_id"), values.get("workflow_id"), values.get("traceparent"))


def _logger(name: str = "mesh_core") -> logging.Logger:
    return logging.getLogger(name)


def _all_ids(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    for name in IDS:
        line.setdefault(name, None)
    return line
