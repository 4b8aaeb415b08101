"""The buttons: each does one thing to one thing, and leads back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from windlass.dashboard.acting import act
from windlass.dashboard.pages.bulk import MOST, matching
from windlass.dashboard.problems import Problem
from windlass.dashboard.redaction import HIDDEN
from windlass.limits import Limit, Rate

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

    from windlass.dashboard.call import Call
    from windlass.observed import Order

# ---------------------------------------------------------------------- jobs


def _job(call: Call, action: str, do: Callable[[int], Any], said: str) -> Response:
    job_id = call.path["id"]
    act(call, action, f"job {job_id}", lambda: do(job_id))
    return call.back(said.format(job_id), to=call.url("job", id=job_id))


def retry(call: Call) -> Response:
    """Run a failed job again."""
    return _job(call, "retry", call.app.retry, "Job #{} will be tried again.")


def cancel(call: Call) -> Response:
    """Cancel a job."""
    return _job(call, "cancel", call.app.cancel, "Job #{} is cancelled, or was asked to stop.")


def run_now(call: Call) -> Response:
    """Make a job that waits for its time available."""
    return _job(call, "run now", call.app.run_now, "Job #{} is available now.")


def delete(call: Call) -> Response:
    """Delete a job."""
    job_id = call.path["id"]
    act(call, "delete", f"job {job_id}", lambda: call.app.delete(job_id))
    return call.back(f"Job #{job_id} is deleted.", to=call.url("jobs"))


def again(call: Call) -> Response:
    """Enqueue a job like this one, with another payload if one was typed; what was hidden comes from this one."""
    app, job = call.app, call.app.get(call.path["id"])
    try:
        payload = msgspec.json.decode(call.field("payload") or "{}")
    except msgspec.DecodeError as error:
        raise Problem(422, f"the payload is not JSON: {error}") from error
    priority = call.field("priority") or "0"
    if not priority.removeprefix("-").isdigit():
        raise Problem(422, f"the priority must be a number, not {priority!r}")
    new = act(
        call,
        "enqueue again",
        f"job {job.id}",
        lambda: app.enqueue(
            job.task, unhidden(payload, job.payload), queue=call.field("queue") or job.queue, priority=int(priority)
        ),
    )
    return call.back(f"Enqueued as job #{new.id}.", to=call.url("job", id=new.id))


def unhidden(value: Any, original: Any) -> Any:
    """Return a value with what was hidden in it taken from the original."""
    if value == HIDDEN:
        return original
    if isinstance(value, dict) and isinstance(original, dict):
        return {name: unhidden(inner, original.get(name, inner)) for name, inner in value.items()}
    if isinstance(value, list) and isinstance(original, list) and len(value) == len(original):
        return [unhidden(*pair) for pair in zip(value, original, strict=True)]
    return value


def retry_group(call: Call) -> Response:
    """Retry all jobs that failed alike, as many as are changed at once."""
    name = call.path["fingerprint"]
    ids, more = matching(call, {"error": name, "status": ["dead", "retrying"]})
    done = act(call, "retry", f"{len(ids)} jobs", lambda: call.app.retry_many(ids=ids), detail=f"error={name}")
    said = f"{len(done.ids)} retried, {len(done.refused)} refused" + (
        f"; more than {MOST:,}: do it again" if more else ""
    )
    return call.back(f"{said}.", to=call.url("failures"))


# ---------------------------------------------------------------------- queues, tasks and limits


def _named(call: Call, action: str, kind: str, do: Callable[..., Any], said: str) -> Response:
    name = call.path["name"]
    act(call, action, f"{kind} {name}", lambda: do(**{kind: name}))
    return call.back(f"{kind.capitalize()} {name} is {said}.", to=call.url("queues"))


def pause_queue(call: Call) -> Response:
    """Pause a queue."""
    return _named(call, "pause", "queue", call.app.pause, "paused")


def resume_queue(call: Call) -> Response:
    """Resume a queue."""
    return _named(call, "resume", "queue", call.app.resume, "resumed")


def pause_task(call: Call) -> Response:
    """Pause a task."""
    return _named(call, "pause", "task", call.app.pause, "paused")


def resume_task(call: Call) -> Response:
    """Resume a task."""
    return _named(call, "resume", "task", call.app.resume, "resumed")


def set_limit(call: Call) -> Response:
    """Set a limit or rate of a queue, a task or a key."""
    kind, name, most, per = (call.field(field).strip() for field in ("kind", "name", "most", "per"))
    if kind not in ("queue", "task", "key") or not name:
        raise Problem(422, "say of which queue, task or key")
    try:
        number, span = float(most), float(per) if per else None
    except ValueError:
        raise Problem(422, "a limit is a number, and so are the seconds of a rate") from None
    if span is None and number != int(number):
        raise Problem(422, "without seconds a limit is a whole number")
    key = name if kind == "key" else None
    limit = Limit(int(number), key=key) if span is None else Rate(number, per=span, key=key)
    where = {} if kind == "key" else {kind: name}
    act(call, "limit", f"{kind} {name}", lambda: call.app.limit(limit, **where), detail=f"{most} per {per or 'moment'}")
    return call.back(f"The limit of {kind} {name} is set.", to=call.url("queues"))


def drop_limit(call: Call) -> Response:
    """Forget what was set."""
    key = call.field("key")
    act(call, "drop limit", key, lambda: call.app.unlimit(key=key))
    return call.back(f"What was set of {key} is forgotten.", to=call.url("queues"))


# ---------------------------------------------------------------------- batches, schedules and workers


def cancel_batch(call: Call) -> Response:
    """Cancel what has not ended of a batch."""
    batch_id = call.path["id"]
    number = act(call, "cancel", f"batch {batch_id}", lambda: call.app.cancel_batch(batch_id))
    return call.back(f"{number} jobs of batch {batch_id} are cancelled.", to=call.url("batch", id=batch_id))


def _schedule(call: Call, action: str, do: Callable[[str], Any], said: str) -> Response:
    name = call.path["name"]
    act(call, action, f"schedule {name}", lambda: do(name))
    return call.back(f"Schedule {name} {said}.", to=call.url("schedules"))


def pause_schedule(call: Call) -> Response:
    """Pause a schedule."""
    return _schedule(call, "pause", call.app.schedules.pause, "is paused")


def resume_schedule(call: Call) -> Response:
    """Resume a schedule."""
    return _schedule(call, "resume", call.app.schedules.resume, "is resumed")


def trigger_schedule(call: Call) -> Response:
    """Run a schedule's job now."""
    return _schedule(call, "trigger", call.app.schedules.trigger, "was triggered")


def _worker(call: Call, order: Order, said: str) -> Response:
    worker = call.path["id"]
    act(call, order, f"worker {worker}", lambda: call.app.order(worker, order))
    return call.back(f"Worker {worker} was told to {said}.", to=call.url("workers"))


def quiet_worker(call: Call) -> Response:
    """Tell a worker to claim nothing more."""
    return _worker(call, "quiet", "claim nothing more")


def resume_worker(call: Call) -> Response:
    """Tell a worker to claim again."""
    return _worker(call, "resume", "claim again")


def stop_worker(call: Call) -> Response:
    """Tell a worker to stop."""
    return _worker(call, "stop", "stop")
