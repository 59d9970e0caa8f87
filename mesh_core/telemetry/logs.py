"""Log lines: JSON with the ids of what they belong to, readable on a terminal."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar, Token
from typing import NamedTuple, Protocol, cast

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


class Ids(NamedTuple):
    """The ids that the running code is bound to."""

    correlation_id: str | None = None
    workflow_id: str | None = None
    traceparent: str | None = None
    causation_id: str | None = None
    """The id of the event that led to what is done now."""
    tenant_id: str | None = None


# One variable for all: structlog's own, one for each, took a twentieth of a small read.
_NONE = Ids()
_bound: ContextVar[Ids] = ContextVar("ids", default=_NONE)


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
        _with_ids,
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


class bound:  # noqa: N801  # reads as a verb: `with bound(workflow_id=…):`
    """Lines logged and events published inside, on this thread or task, carry these ids besides those bound outside.

    Lines carry the first three.
    """

    __slots__ = ("_ids", "_token")
    _token: Token[Ids]

    def __init__(
        self,
        *,
        correlation_id: str | None = None,
        workflow_id: str | None = None,
        traceparent: str | None = None,
        causation_id: str | None = None,
        tenant_id: str | None = None,
    ) -> None:
        self._ids = Ids(correlation_id, workflow_id, traceparent, causation_id, tenant_id)

    def __enter__(self) -> None:
        outer = _bound.get()
        if outer is _NONE:
            self._token = _bound.set(self._ids)
        else:
            ids = [old if new is None else new for new, old in zip(self._ids, outer, strict=True)]
            self._token = _bound.set(Ids(*ids))

    def __exit__(self, *_: object) -> None:
        _bound.reset(self._token)


def current() -> Ids:
    """What `bound` has bound here, for an event or a request that goes out."""
    return _bound.get()


def _logger(name: str = "mesh_core") -> logging.Logger:
    return logging.getLogger(name)


def _with_ids(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    ids = _bound.get()
    trace_id = None if ids.traceparent is None else trace_id_of(ids.traceparent)
    found = {
        "correlation_id": ids.correlation_id,
        "workflow_id": ids.workflow_id,
        "traceparent": ids.traceparent,
        "trace_id": trace_id,
    }
    for name, value in found.items():
        if value is not None:
            line.setdefault(name, value)
    return line


def _all_ids(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    for name in IDS:
        line.setdefault(name, None)
    return line
