"""Enqueue and run are one trace, in whatever processes they happen."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from windlass import Snooze, Windlass, chain
from windlass.contrib.opentelemetry import instrument
from windlass.testing import testing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def provider(spans: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider


@pytest.fixture
def app(provider: TracerProvider, reader: InMemoryMetricReader) -> Iterator[Windlass]:
    meters = MeterProvider([reader])
    with Windlass("memory://") as app:
        instrument(app, tracer_provider=provider, meter_provider=meters)
        yield app
    meters.shutdown()


def test_a_run_belongs_to_its_enqueue_and_its_children_to_it(app: Windlass, spans: InMemorySpanExporter) -> None:
    @app.task(queue="mail")
    def parent() -> None:
        child.enqueue()

    @app.task
    async def child() -> None: ...

    with testing(app) as t:
        job = parent.enqueue()
        t.drain()
    found = {span.name: span for span in spans.get_finished_spans()}
    assert set(found) == {"enqueue parent", "process parent", "enqueue child", "process child"}
    assert len({span.context.trace_id for span in found.values()}) == 1
    for name, above in (
        ("process parent", "enqueue parent"),
        ("enqueue child", "process parent"),
        ("process child", "enqueue child"),
    ):
        one = found[name].parent
        assert one is not None
        assert one.span_id == found[above].context.span_id
    sent, ran = found["enqueue parent"], found["process parent"]
    assert (sent.kind, ran.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert sent.attributes is not None
    assert ran.attributes is not None
    for attributes in (sent.attributes, ran.attributes):
        assert attributes["messaging.system"] == "windlass"
        assert attributes["messaging.destination.name"] == "mail"
        assert attributes["messaging.message.id"] == str(job.id)
    assert ran.attributes["messaging.operation.type"] == "process"


def test_the_later_steps_of_a_chain_belong_to_its_trace(app: Windlass, spans: InMemorySpanExporter) -> None:
    @app.task
    def first() -> int:
        return 1

    @app.task
    def second(value: int) -> int:
        return value

    @app.task
    def third(value: int) -> None: ...

    with testing(app) as t:
        chain(first, second, third).enqueue()
        t.drain()
    found = {span.name: span for span in spans.get_finished_spans()}
    assert set(found) == {"enqueue first", "process first", "process second", "process third"}
    assert len({span.context.trace_id for span in found.values()}) == 1


def test_the_callbacks_of_a_batch_belong_to_the_span_that_opens_it(
    app: Windlass, spans: InMemorySpanExporter, provider: TracerProvider
) -> None:
    @app.task
    def member() -> None: ...

    @app.task
    def report() -> None: ...

    with testing(app) as t:
        with (
            provider.get_tracer("request").start_as_current_span("request"),
            app.batch("images", on_success=report.job()) as batch,
        ):
            batch.add(member.job())
        t.drain()
    found = {span.name: span for span in spans.get_finished_spans()}
    above = found["process report"].parent
    assert above is not None
    assert above.span_id == found["request"].context.span_id
    assert len({span.context.trace_id for span in found.values()}) == 1


def test_a_failure_is_recorded_and_a_snooze_is_none(app: Windlass, spans: InMemorySpanExporter) -> None:
    @app.task(max_attempts=1)
    def broken() -> None:
        raise ValueError("no route")

    @app.task
    def sleepy() -> None:
        raise Snooze(60)

    with testing(app) as t:
        broken.enqueue()
        sleepy.enqueue()
        t.drain()
    found = {span.name: span for span in spans.get_finished_spans()}
    failed = found["process broken"]
    assert failed.status.status_code is StatusCode.ERROR
    assert [event.name for event in failed.events] == ["exception"]
    assert found["process sleepy"].status.status_code is StatusCode.UNSET


def test_jobs_are_counted_and_timed(app: Windlass, reader: InMemoryMetricReader) -> None:
    @app.task
    def work() -> None: ...

    with testing(app) as t:
        work.enqueue()
        work.enqueue()
        t.drain()
    data = reader.get_metrics_data()
    assert data is not None
    found = {
        metric.name: metric.data.data_points[0]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert found["messaging.client.sent.messages"].value == 2  # type: ignore[union-attr]
    assert found["messaging.process.duration"].count == 2  # type: ignore[union-attr]
    assert found["windlass.wait.duration"].count == 2  # type: ignore[union-attr]


SHOP = """
    import json, sys
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from windlass import Windlass
    from windlass.contrib.opentelemetry import instrument

    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    app = Windlass(sys.argv[1], poll=0.05)
    instrument(app)

    @app.task
    def work() -> None: ...

    if sys.argv[2] == "enqueue":
        work.enqueue()
    else:
        with app.worker():
            app.jobs()[0].join(timeout=30)
    app.close()
    print(json.dumps([[span.name, format(span.context.trace_id, "032x")] for span in spans.get_finished_spans()]))
"""


def test_enqueue_and_run_have_one_trace_id_across_two_processes(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(textwrap.dedent(SHOP), encoding="utf-8")
    url = f"sqlite:///{tmp_path}/jobs.db"
    seen = []
    for what in ("enqueue", "work"):
        command = [sys.executable, "shop.py", url, what]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
        seen += json.loads(done.stdout)
    assert [name for name, _ in seen] == ["enqueue work", "process work"]
    assert seen[0][1] == seen[1][1]
