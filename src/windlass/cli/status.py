"""``status``, ``queues``, ``workers``, ``failures`` and ``audit``: the whole in numbers, and what was done."""

from typing import Annotated, Any

import msgspec
import typer

from windlass.app import Windlass
from windlass.cli import output
from windlass.cli.command import command
from windlass.cli.options import Json
from windlass.cli.values import duration
from windlass.drivers.base import FAULTS
from windlass.job import Status
from windlass.report import Numbers, as_json

PANEL = "Look"
NUMBERS = tuple(f">{status}" for status in Status)


def add(cli: typer.Typer) -> None:
    """Add the commands."""
    command(cli, "status", panel=PANEL)(status)
    command(cli, "queues", panel=PANEL)(queues)
    command(cli, "workers", panel=PANEL)(workers)
    command(cli, "failures", panel=PANEL)(failures)
    command(cli, "audit", panel=PANEL)(audit)


def status(
    app: Windlass,
    *,
    window: Annotated[
        float,
        typer.Option(
            "--window", metavar="DURATION", parser=duration, help="Look this far back for the rate; at most 1h."
        ),
    ] = 60.0,
    as_json: Json = False,
) -> None:
    """Show how many jobs there are, of which status, and what is done with them."""
    if as_json:
        output.json(summary(app, window))
        return
    stats = app.stats()
    rate = app.throughput(window=window)
    everything = [("all", *_numbers(stats))]
    output.table(("status", *NUMBERS), everything)
    queues(app)
    output.table(("task", *NUMBERS), [(name, *_numbers(n)) for name, n in stats.tasks.items()])
    alive = [worker for worker in app.workers() if worker.status in ("running", "stopping")]
    busy, slots = sum(w.running for w in alive), sum(w.concurrency for w in alive)
    output.line(f"workers: {len(alive)} alive, {busy} of {slots} slots busy")
    output.line(
        f"last {output.span(window)}: {rate.processed} processed ({rate.per_second:.1f}/s), {rate.failed} attempts failed"
    )
    totals = ", ".join(f"{name} {number}" for name, number in msgspec.structs.asdict(stats.totals).items() if number)
    output.line(f"ever: {totals or 'nothing yet'}")


def summary(app: Windlass, window: float) -> dict[str, Any]:
    """Gather what ``status --json`` prints."""
    stats, rate = app.stats(), app.throughput(window=window)
    return {
        **as_json(stats),
        "failed": stats.failed,
        "throughput": {**as_json(rate), "per_second": rate.per_second, "per_minute": rate.per_minute},
        "workers": as_json(app.workers()),
        "queue_list": as_json(app.queues()),
    }


def queues(app: Windlass, *, as_json: Json = False) -> None:
    """List the queues: their jobs, whether they are paused, and how long the oldest has waited."""
    found = app.queues()
    if as_json:
        output.json(found)
        return
    rows = [(q.name, *_numbers(q), "paused" if q.paused else "", output.span(q.oldest)) for q in found]
    output.table(("queue", *NUMBERS, "paused", ">oldest"), rows)


def workers(
    app: Windlass,
    *,
    quiet: Annotated[
        str | None, typer.Option("--quiet", metavar="WORKER", help="Tell it to claim nothing more.")
    ] = None,
    resume: Annotated[str | None, typer.Option("--resume", metavar="WORKER", help="Tell it to claim again.")] = None,
    stop: Annotated[
        str | None, typer.Option("--stop", metavar="WORKER", help="Tell it to stop, as SIGTERM does.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the workers that live, and those that were lost or stopped within the last hour; or tell one what to do."""
    if quiet is not None:
        app.order(quiet, "quiet")
    if resume is not None:
        app.order(resume, "resume")
    if stop is not None:
        app.order(stop, "stop")
    found = app.workers()
    if as_json:
        output.json(found)
        return
    now = app.driver.now()
    output.table(
        ("worker", "status", "host", ">pid", "queues", ">running", ">slots", ">processed", ">refused", ">beat", "note"),
        [
            (
                w.id, "quiet" if w.quiet and w.status == "running" else w.status, w.host, w.pid,
                "all" if w.queues is None else ",".join(w.queues), w.running,
                w.concurrency, w.processed, w.refused, f"{output.span(max(0.0, now - w.beat_at))} ago", w.note,
            )
            for w in found
        ],
    )  # fmt: skip


def failures(
    app: Windlass,
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Groups at most.")] = 20,
    as_json: Json = False,
) -> None:
    """List what fails, dead and retrying jobs in groups of one cause, newest first.

    A group is listed by `windlass jobs --error FINGERPRINT` and tried again by `windlass retry --error FINGERPRINT`.
    """
    groups = app.failures(limit=limit)
    if as_json:
        output.json(groups)
        return
    output.table(
        ("fingerprint", ">dead", ">retrying", "newest", "task", "error"),
        [
            (
                g.fingerprint, f"{FAULTS}+" if g.dead > FAULTS else g.dead, g.retrying, f"#{g.newest.id}", g.newest.task,
                f"{g.type}: {g.message}",
            )
            for g in groups
        ],
    )  # fmt: skip


def audit(
    app: Windlass,
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Actions at most.")] = 50,
    before: Annotated[int | None, typer.Option("--before", metavar="N", help="Those before this number.")] = None,
    as_json: Json = False,
) -> None:
    """List what was done by hand through the dashboard and its API: who did what to how many, newest first."""
    actions = app.audit(limit=limit, before=before)
    if as_json:
        output.json(actions)
        return
    output.table(
        (">number", "time", "who", "did", "to", ">done", ">refused", "detail"),
        [(a.number, output.time(a.at), a.actor, a.action, a.target, a.done, a.refused, a.detail) for a in actions],
    )


def _numbers(numbers: Numbers) -> list[int]:
    return [getattr(numbers, status.value) for status in Status]
