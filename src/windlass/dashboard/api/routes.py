"""The routes of the API, each with what it takes and returns."""

from __future__ import annotations

from typing import Any

import msgspec

from windlass.client.limiting import LimitState
from windlass.dashboard.access import Role
from windlass.dashboard.api import jobs, rest
from windlass.dashboard.api.operation import Nothing, Operation
from windlass.dashboard.api.views import (
    AttemptView,
    BatchView,
    BulkBody,
    CountView,
    DoneView,
    EnqueueBody,
    FailureView,
    JobsQuery,
    JobsView,
    JobView,
    KeyBody,
    Levels,
    LimitBody,
    LineView,
    Pages,
    ReasonView,
    RetryBody,
    ScheduleView,
    Told,
    Which,
    Window,
)
from windlass.drivers.base import Finding, Worker
from windlass.measures import Measure
from windlass.observed import Action, Sample
from windlass.report import Queue, Stats, Throughput


class Api(msgspec.Struct, frozen=True, kw_only=True):
    """One route."""

    method: str
    path: str
    role: Role
    name: str
    operation: Operation


def _get(path: str, do: Any, summary: str, returns: Any, query: type[msgspec.Struct] = Nothing) -> Api:
    name = f"api_{do.__module__.rpartition('.')[2]}_{do.__name__}"
    operation = Operation(do=do, summary=summary, returns=returns, query=query)
    return Api(method="GET", path=f"/api{path}", role=Role.READ, name=name, operation=operation)


def _act(
    path: str, do: Any, summary: str, returns: Any, body: Any = Nothing, *, role: Role = Role.OPERATE,
    method: str = "POST", created: bool = False,
) -> Api:  # fmt: skip
    name = f"api_{do.__module__.rpartition('.')[2]}_{do.__name__}"
    operation = Operation(do=do, summary=summary, returns=returns, body=body, created=created)
    return Api(method=method, path=f"/api{path}", role=role, name=name, operation=operation)


ROUTES = (
    _get("/stats", rest.stats, "The whole in numbers.", Stats),
    _get("/throughput", rest.throughput, "What was done in the last seconds.", Throughput, Window),
    _get("/samples", rest.samples, "How the queues stood each minute or hour, oldest first.", list[Sample], Levels),
    _get("/measures", rest.measures, "Histograms of waits and run times.", list[Measure]),
    _get("/jobs", jobs.listed, "Jobs that match, newest first, a page at a time.", JobsView, JobsQuery),
    _act("/jobs", jobs.enqueue, "Enqueue a job.", JobView, EnqueueBody, created=True),
    _get("/jobs/count", jobs.count, "How many jobs match.", CountView, Which),
    _act("/jobs/retry", jobs.retry_many, "Retry many jobs.", DoneView, BulkBody),
    _act("/jobs/cancel", jobs.cancel_many, "Cancel many jobs.", DoneView, BulkBody),
    _act("/jobs/delete", jobs.delete_many, "Delete many jobs.", DoneView, BulkBody, role=Role.ADMIN),
    _get("/jobs/{id:int}", jobs.shown, "One job.", JobView),
    _act("/jobs/{id:int}", jobs.delete, "Delete a job.", Told, role=Role.ADMIN, method="DELETE"),
    _get("/jobs/{id:int}/why", jobs.why, "Why it is where it is.", list[ReasonView]),
    _get("/jobs/{id:int}/history", jobs.history, "Its tries that have ended, oldest first.", list[AttemptView]),
    _get("/jobs/{id:int}/log", jobs.lines, "The lines of its own log.", list[LineView]),
    _act("/jobs/{id:int}/retry", jobs.retry, "Retry a job.", JobView, RetryBody),
    _act("/jobs/{id:int}/cancel", jobs.cancel, "Cancel a job, or ask it to stop.", JobView),
    _act("/jobs/{id:int}/run-now", jobs.run_now, "Make a job that waits for its time available.", JobView),
    _get("/failures", rest.failures, "Dead and retrying jobs by cause.", list[FailureView], Pages),
    _get("/queues", rest.queues, "The queues.", list[Queue]),
    _act("/queues/{name:path}/pause", rest.pause_queue, "Pause a queue.", Told),
    _act("/queues/{name:path}/resume", rest.resume_queue, "Resume a queue.", Told),
    _act("/tasks/{name:path}/pause", rest.pause_task, "Pause a task.", Told),
    _act("/tasks/{name:path}/resume", rest.resume_task, "Resume a task.", Told),
    _get("/limits", rest.limits, "Limits and rates.", list[LimitState]),
    _act("/limits", rest.set_limit, "Set a limit or rate.", list[LimitState], LimitBody, role=Role.ADMIN),
    _act("/limits/drop", rest.drop_limit, "Forget what was set.", Told, KeyBody, role=Role.ADMIN),
    _get("/batches", rest.batches, "Batches, newest first.", list[BatchView], Pages),
    _get("/batches/{id:int}", rest.batch, "One batch.", BatchView),
    _act("/batches/{id:int}/cancel", rest.cancel_batch, "Cancel what is left of a batch.", BatchView),
    _get("/schedules", rest.schedules, "The schedules.", list[ScheduleView]),
    _act("/schedules/{name:path}/pause", rest.pause_schedule, "Pause a schedule.", ScheduleView),
    _act("/schedules/{name:path}/resume", rest.resume_schedule, "Resume a schedule.", ScheduleView),
    _act("/schedules/{name:path}/trigger", rest.trigger_schedule, "Run a schedule's job now.", ScheduleView),
    _get("/workers", rest.workers, "The workers.", list[Worker]),
    _act("/workers/{id}/quiet", rest.quiet, "Tell a worker to claim nothing more.", Told),
    _act("/workers/{id}/resume", rest.resume, "Tell a worker to claim again.", Told),
    _act("/workers/{id}/stop", rest.stop, "Tell a worker to stop.", Told, role=Role.ADMIN),
    _get("/store", rest.findings, "What the doctor says.", list[Finding]),
    _get("/audit", rest.audit, "Who did what, newest first.", list[Action], Pages),
)
