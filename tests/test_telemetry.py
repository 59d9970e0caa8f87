"""What a running mesh tells of itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import httpx
import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mesh_core import telemetry
from mesh_core.settings import Settings
from mesh_core.telemetry import metrics

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_json_line_carries_the_ids_it_is_bound_to(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging(Settings(log_format="json"))
    with telemetry.bound(correlation_id="c1"), telemetry.bound(workflow_id="w1", traceparent=TRACEPARENT):
        telemetry.get_logger("mesh_core.engine").info("batch applied", events=3)
    line = json.loads(capsys.readouterr().err)
    assert line["event"] == "batch applied"
    assert line["level"] == "info"
    assert line["logger"] == "mesh_core.engine"
    assert line["events"] == 3
    assert (line["correlation_id"], line["workflow_id"]) == ("c1", "w1")
    assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert line["timestamp"].endswith("Z")


def test_a_line_that_belongs_to_nothing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging(Settings(log_format="auto"))
    telemetry.get_logger("test").warning("a line")
    line = json.loads(capsys.readouterr().err)
    assert line["correlation_id"] is line["workflow_id"] is line["trace_id"] is None


def test_lines_of_libraries_look_the_same_and_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging(Settings(log_format="json"))
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("some.library").exception("it failed: %s", "badly")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["logger"]) == ("it failed: badly", "some.library")
    assert line["exception"][0]["exc_type"] == "ValueError"


def test_less_severe_lines_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging(Settings(log_format="json", log_level="warning"))
    telemetry.get_logger("test").info("not this")
    logging.getLogger("library").info("nor this")
    assert capsys.readouterr().err == ""


def test_console_lines_are_not_json(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging(Settings(log_format="console"))
    telemetry.get_logger("test").info("hello", events=3)
    assert "hello" in capsys.readouterr().err


def test_what_is_bound_inside_is_gone_outside() -> None:
    with telemetry.bound(correlation_id="c1"):
        with telemetry.bound(correlation_id="c2", traceparent=TRACEPARENT):
            assert telemetry.current() == telemetry.Ids("c2", None, TRACEPARENT)
        assert telemetry.current() == telemetry.Ids("c1")
    assert telemetry.current() == telemetry.Ids()


def test_a_stage_is_timed_also_when_it_fails() -> None:
    def count() -> float:
        return (
            metrics.PROJECTOR.get_sample_value("mesh_projector_stage_seconds_count", {"stage": "fold"}) or 0
        )

    before = count()
    with telemetry.stage("fold"):
        pass
    with pytest.raises(ValueError), telemetry.stage("fold"):  # noqa: PT011
        raise ValueError
    assert count() == before + 2


def test_metrics_and_readiness_are_served_on_loopback() -> None:
    reasons: list[str] = []
    server = telemetry.serve_metrics(0, lambda: reasons)
    try:
        base = f"http://127.0.0.1:{server.port}"
        exposed = httpx.get(f"{base}/metrics").text
        assert "mesh_projector_batch_records" in exposed
        assert "process_cpu_seconds_total" in exposed
        assert "mesh_api" not in exposed
        assert httpx.get(f"{base}/livez").status_code == 200
        assert httpx.get(f"{base}/readyz").json() == {"status": "ready", "reasons": []}
        reasons.append("sales.events[0] is halted.")
        refused = httpx.get(f"{base}/readyz")
        assert (refused.status_code, refused.json()["reasons"]) == (503, reasons)
        with pytest.raises(telemetry.MetricsPortTaken, match="MESH_PROJECTOR_METRICS_PORT"):
            telemetry.serve_metrics(server.port)
    finally:
        server.close()


@pytest.mark.parametrize(
    "text",
    ["", "00-0-0-00", TRACEPARENT.upper(), TRACEPARENT + "-x", "00-" + "0" * 32 + "-b7ad6b7169203331-01"],
)
def test_what_is_not_a_traceparent_is_refused(text: str) -> None:
    assert not telemetry.is_traceparent(text)
    assert telemetry.trace_id_of(text) is None


def test_a_new_trace_can_be_continued() -> None:
    made = telemetry.new_traceparent()
    assert telemetry.is_traceparent(made)
    assert made != telemetry.new_traceparent()


def test_without_an_sdk_a_trace_passes_through_and_nothing_is_read() -> None:
    with telemetry.send_span("sales.events", TRACEPARENT) as outgoing:
        assert outgoing == TRACEPARENT
    unread = iter([TRACEPARENT])
    with telemetry.process_span("sales.events", unread, records=9):
        assert next(unread) == TRACEPARENT


def test_with_an_sdk_a_batch_links_to_the_traces_of_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    with telemetry.send_span("sales.events", TRACEPARENT) as outgoing:
        assert outgoing is not None
    with telemetry.process_span("sales.events", [outgoing, "nonsense"], records=2):
        pass
    sent, processed = exporter.get_finished_spans()
    assert (sent.name, processed.name) == ("send sales.events", "process sales.events")
    assert sent.parent is not None
    assert sent.context is not None
    assert format(sent.context.trace_id, "032x") == TRACEPARENT[3:35]
    assert [link.context.span_id for link in processed.links] == [sent.context.span_id]
    assert processed.attributes is not None
    assert processed.attributes["messaging.batch.message_count"] == 2
    provider.shutdown()
