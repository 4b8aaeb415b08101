"""Traces and metrics for OpenTelemetry: one call, ``instrument(app)``.

An enqueue is a producer's span, an attempt a consumer's. The trace context travels in the job's ``meta``, under ``"trace"``, in
the W3C spelling, so that enqueue and run have one trace id in whatever processes they happen; what a handler enqueues belongs
to it too. Names and attributes follow the semantic conventions for messaging
(https://opentelemetry.io/docs/specs/semconv/messaging/).
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from windlass.carrying import TRACE
from windlass.errors import ConfigurationError
from windlass.outcomes import Cancel, Snooze

try:
    from opentelemetry import metrics, propagate, trace
    from opentelemetry.trace import SpanKind, Status, StatusCode
except ImportError as missing:
    raise ConfigurationError(
        f"tracing needs what cannot be imported ({missing}): pip install 'windlass[otel]'"
    ) from missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from windlass.app import Windlass
    from windlass.context import Context
    from windlass.job import Job
    from windlass.outgoing import Outgoing

SYSTEM = "windlass"


def instrument(
    app: Windlass, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> None:
    """Trace every enqueue and attempt of an application, and count and time them.

    Without providers those of the process are used. Call it once, where the tasks are registered: producers and workers
    need it both.
    """
    _Instrument(
        app,
        trace.get_tracer("windlass", tracer_provider=tracer_provider),
        metrics.get_meter("windlass", meter_provider=meter_provider),
    )


class _Instrument:
    """The two hooks, and what they record in."""

    def __init__(self, app: Windlass, tracer: trace.Tracer, meter: metrics.Meter) -> None:
        self._tracer = tracer
        self._sent = meter.create_counter(
            "messaging.client.sent.messages", unit="{message}", description="Jobs enqueued."
        )
        self._ran = meter.create_histogram(
            "messaging.process.duration", unit="s", description="From the start of a handler to its end."
        )
        self._waited = meter.create_histogram(
            "windlass.wait.duration", unit="s", description="From when a job was available to when its handler started."
        )
        app.around_enqueue(self.enqueue)
        app.around_attempt(self.attempt)
        app.trace = _injected

    @contextmanager
    def enqueue(self, outgoing: Outgoing) -> Iterator[None]:
        """Put the trace context into the job."""
        what = _named(outgoing.task, outgoing.queue, "enqueue", "send")
        with self._tracer.start_as_current_span(
            f"enqueue {outgoing.task}", kind=SpanKind.PRODUCER, attributes=what
        ) as span:
            carrier = _injected()
            if carrier:
                outgoing.meta[TRACE] = carrier
            yield
            if outgoing.job is not None:
                span.set_attribute("messaging.message.id", str(outgoing.job.id))
        self._sent.add(1, what)

    @contextmanager
    def attempt(self, context: Context) -> Iterator[None]:
        """Run the handler in a span that belongs to the enqueue."""
        job = context.job
        what = _named(job.task, job.queue, "process", "process")
        more: dict[str, str | int] = {
            "messaging.message.id": str(job.id),
            "messaging.message.conversation_id": job.correlation_id,
            "windlass.attempt": context.attempt,
        }
        started = time.perf_counter()
        outcome = "ok"
        if job.started_at is not None:
            self._waited.record(max(0.0, (job.started_at - job.run_at).total_seconds()), what)
        with self._tracer.start_as_current_span(
            f"process {job.task}", context=_carried(job), kind=SpanKind.CONSUMER, attributes={**what, **more},
            record_exception=False, set_status_on_exception=False,
        ) as span:  # fmt: skip
            try:
                yield
            except (Snooze, Cancel) as ended:
                outcome = type(ended).__name__.lower()
                span.set_attribute("windlass.outcome", outcome)
                raise
            except BaseException as error:
                outcome = type(error).__qualname__
                span.record_exception(error)
                span.set_status(Status(StatusCode.ERROR, str(error)))
                span.set_attribute("error.type", outcome)
                raise
            finally:
                failed = {} if outcome == "ok" else {"error.type": outcome}
                self._ran.record(time.perf_counter() - started, {**what, **failed})


def _injected() -> dict[str, str]:
    """Return the context of the span in which this runs; nothing outside of one."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier


def _carried(job: Job) -> Any:
    carrier = job.meta.get(TRACE)
    return propagate.extract(carrier) if isinstance(carrier, dict) else None


def _named(task: str, queue: str, operation: str, kind: str) -> dict[str, str]:
    return {
        "messaging.system": SYSTEM,
        "messaging.destination.name": queue,
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "windlass.task": task,
    }
