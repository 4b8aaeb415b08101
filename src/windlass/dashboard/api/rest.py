"""All but jobs over HTTP: numbers, queues, tasks, limits, batches, schedules, workers, failures, the store, the audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windlass.dashboard.acting import act
from windlass.dashboard.api.jobs import view
from windlass.dashboard.api.views import (
    BatchView,
    FailureView,
    KeyBody,
    Levels,
    LimitBody,
    Pages,
    ScheduleView,
    Told,
    Window,
)
from windlass.dashboard.problems import Problem
from windlass.limits import Limit, Rate

if TYPE_CHECKING:
    from windlass.client.batch import Batch
    from windlass.client.limiting import LimitState
    from windlass.client.schedule import Schedule
    from windlass.dashboard.call import Call
    from windlass.drivers.base import Finding, Worker
    from windlass.measures import Measure
    from windlass.observed import Action, Order, Sample
    from windlass.report import Queue, Stats, Throughput

# ---------------------------------------------------------------------- numbers


def stats(call: Call, _query: None, _body: None) -> Stats:
    """Return the whole in numbers."""
    return call.app.stats()


def throughput(call: Call, query: Window, _body: None) -> Throughput:
    """Return what was done in the last seconds."""
    return call.app.throughput(query.queue, window=query.window)


def samples(call: Call, query: Levels, _body: None) -> list[Sample]:
    """Return how it stood each minute or hour."""
    return call.app.samples(query.level, limit=query.limit)  # type: ignore[arg-type]  # it is checked there


def measures(call: Call, _query: None, _body: None) -> list[Measure]:
    """Return how long jobs wait and run."""
    return call.app.measures()


def failures(call: Call, query: Pages, _body: None) -> list[FailureView]:
    """Return failures by cause."""
    return [
        FailureView(
            fingerprint=group.fingerprint, type=group.type, message=group.message, dead=group.dead,
            retrying=group.retrying, newest=view(call, group.newest),
        )
        for group in call.app.failures(limit=query.limit)
    ]  # fmt: skip


def findings(call: Call, _query: None, _body: None) -> list[Finding]:
    """Return what the doctor says."""
    return call.app.diagnose()


def audit(call: Call, query: Pages, _body: None) -> list[Action]:
    """Return who did what."""
    return call.app.audit(limit=query.limit, before=query.after)


# ---------------------------------------------------------------------- queues, tasks and limits


def queues(call: Call, _query: None, _body: None) -> list[Queue]:
    """Return the queues."""
    return call.app.queues()


def _paused(call: Call, action: str, kind: str, do: Any) -> Told:
    name = call.path["name"]
    act(call, action, f"{kind} {name}", lambda: do(**{kind: name}))
    return Told()


def pause_queue(call: Call, _query: None, _body: None) -> Told:
    """Pause a queue."""
    return _paused(call, "pause", "queue", call.app.pause)


def resume_queue(call: Call, _query: None, _body: None) -> Told:
    """Resume a queue."""
    return _paused(call, "resume", "queue", call.app.resume)


def pause_task(call: Call, _query: None, _body: None) -> Told:
    """Pause a task."""
    return _paused(call, "pause", "task", call.app.pause)


def resume_task(call: Call, _query: None, _body: None) -> Told:
    """Resume a task."""
    return _paused(call, "resume", "task", call.app.resume)


def limits(call: Call, _query: None, _body: None) -> list[LimitState]:
    """Return limits and rates."""
    return call.app.limits()


def set_limit(call: Call, _query: None, body: LimitBody) -> list[LimitState]:
    """Set one."""
    where = {"queue": body.queue, "task": body.task}
    if sum(value is not None for value in (*where.values(), body.key)) != 1:
        raise Problem(422, "give queue, task or key, one of them")
    if body.per is None and body.most != int(body.most):
        raise Problem(422, "without per, most is a whole number")
    limit = Limit(int(body.most), key=body.key) if body.per is None else Rate(body.most, per=body.per, key=body.key)
    target = next(f"{kind} {name}" for kind, name in [*where.items(), ("key", body.key)] if name is not None)
    act(
        call,
        "limit",
        target,
        lambda: call.app.limit(limit, **where),
        detail=f"{body.most:g} per {body.per or 'moment'}",
    )
    return call.app.limits()


def drop_limit(call: Call, _query: None, body: KeyBody) -> Told:
    """Forget what was set."""
    return Told(ok=act(call, "drop limit", body.key, lambda: call.app.unlimit(key=body.key)))


# ---------------------------------------------------------------------- batches, schedules and workers


def _batch(batch: Batch) -> BatchView:
    progress = batch.progress()
    return BatchView(
        id=batch.id, name=batch.name, origin=batch.origin, parent_id=batch.parent_id, open=batch.open,
        created_at=batch.created_at, finished_at=progress.finished_at, total=progress.total, left=progress.left,
        completed=progress.completed, dead=progress.dead, cancelled=progress.cancelled,
    )  # fmt: skip


def batches(call: Call, query: Pages, _body: None) -> list[BatchView]:
    """Return batches, newest first; pass the last id as ``after`` for the next page."""
    return [_batch(batch) for batch in call.app.batches(limit=query.limit, after=query.after)]


def batch(call: Call, _query: None, _body: None) -> BatchView:
    """Return one."""
    return _batch(call.app.get_batch(call.path["id"]))


def cancel_batch(call: Call, _query: None, _body: None) -> BatchView:
    """Cancel what is left of one."""
    batch_id = call.path["id"]
    act(call, "cancel", f"batch {batch_id}", lambda: call.app.cancel_batch(batch_id))
    return _batch(call.app.get_batch(batch_id))


def _schedule(call: Call, schedule: Schedule) -> ScheduleView:
    return ScheduleView(
        name=schedule.name, words=schedule.words, task=schedule.task, queues=list(schedule.queues),
        payload=call.site.redact(schedule.task, schedule.payload), timezone=schedule.timezone, paused=schedule.paused,
        fired=schedule.fired, next_at=schedule.next_at, last_jobs=dict(schedule.last_jobs),
    )  # fmt: skip


def schedules(call: Call, _query: None, _body: None) -> list[ScheduleView]:
    """Return the schedules."""
    return [_schedule(call, one) for one in call.app.schedules.all()]


def _changed(call: Call, action: str, do: Any) -> ScheduleView:
    name = call.path["name"]
    act(call, action, f"schedule {name}", lambda: do(name))
    return _schedule(call, call.app.schedules.get(name))


def pause_schedule(call: Call, _query: None, _body: None) -> ScheduleView:
    """Pause one."""
    return _changed(call, "pause", call.app.schedules.pause)


def resume_schedule(call: Call, _query: None, _body: None) -> ScheduleView:
    """Resume one."""
    return _changed(call, "resume", call.app.schedules.resume)


def trigger_schedule(call: Call, _query: None, _body: None) -> ScheduleView:
    """Run its job now."""
    return _changed(call, "trigger", call.app.schedules.trigger)


def workers(call: Call, _query: None, _body: None) -> list[Worker]:
    """Return the workers."""
    return call.app.workers()


def _order(call: Call, order: Order) -> Told:
    worker = call.path["id"]
    act(call, order, f"worker {worker}", lambda: call.app.order(worker, order))
    return Told()


def quiet(call: Call, _query: None, _body: None) -> Told:
    """Tell one to claim nothing more."""
    return _order(call, "quiet")


def resume(call: Call, _query: None, _body: None) -> Told:
    """Tell one to claim again."""
    return _order(call, "resume")


def stop(call: Call, _query: None, _body: None) -> Told:
    """Tell one to stop."""
    return _order(call, "stop")
