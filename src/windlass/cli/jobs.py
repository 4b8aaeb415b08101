"""``jobs``, ``job`` and ``why``: looking at single jobs."""

from typing import Annotated, Any

import msgspec
import typer

from windlass.app import Windlass
from windlass.cli import output
from windlass.cli.command import command
from windlass.cli.options import Id, Json
from windlass.job import Attempt, Job
from windlass.report import as_json as to_json

PANEL = "Look"


def add(cli: typer.Typer) -> None:
    """Add the commands."""
    command(cli, "jobs", panel=PANEL)(jobs)
    command(cli, "job", panel=PANEL)(job)
    command(cli, "why", panel=PANEL)(why)


def jobs(
    app: Windlass,
    filters: Any,
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", help="At most so many, up to 1000.")] = 50,
    after: Annotated[
        int | None, typer.Option("--after", metavar="ID", help="Only older ones than this: `next` of the page before.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List jobs, newest first.

    Example: windlass jobs --status dead --queue mail --limit 20
    """
    page = app.jobs(**filters, limit=limit, after=after)
    if as_json:
        output.json({"jobs": list(page), "next": page.next})
        return
    rows = [
        (j.id, j.task, j.queue, j.status, f"{j.failures}/{j.max_attempts}", output.time(_when(j)), j.error or "")
        for j in page
    ]
    output.table((">id", "task", "queue", "status", ">failed", "since / due", "error"), rows)
    if page.next is not None:
        typer.echo(f"there are more: --after {page.next}", err=True)


def _when(job: Job) -> Any:
    return job.finished_at or (job.started_at if job.status == "running" else None) or job.run_at


def job(app: Windlass, *, job_id: Id, as_json: Json = False) -> None:
    """Show everything about a job: its progress, its attempts with their tracebacks, and its own log."""
    found = app.get(job_id)
    history, lines = found.history(), found.lines()
    if as_json:
        attempts = [{**to_json(a), "duration": a.duration} for a in history]
        output.json({**to_json(found), "history": attempts, "lines": lines})
        return
    output.fields(_fields(found))
    for attempt in history:
        _attempt(attempt)
    if lines:
        output.line()
        output.line("log")
    for told in lines:
        output.line(f"  {output.time(told.at)}  {told.text}")


def _fields(job: Job) -> list[tuple[str, object]]:
    limit = "" if job.timeout is None else "none" if job.timeout == 0 else output.span(job.timeout)
    return [
        ("job", job.id), ("task", job.task), ("queue", job.queue), ("status", job.status), ("priority", job.priority),
        ("attempt", job.attempt), ("failures", f"{job.failures} of {job.max_attempts}"), ("crashes", job.crashes),
        ("timeout", limit), ("created", output.time(job.created_at)), ("due", output.time(job.run_at)),
        ("progress", job.progress), ("started", output.time(job.started_at)), ("finished", output.time(job.finished_at)), ("worker", job.worker),
        ("tags", ", ".join(job.tags)), ("origin", job.origin), ("batch", job.batch_id), ("tick", output.time(job.tick)),
        ("key", job.idempotency_key), ("meta", _json(job.meta) if job.meta else ""), ("payload", _json(job.payload)),
        ("result", "" if job.result is None else _json(job.result)), ("error", job.error),
    ]  # fmt: skip


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _attempt(attempt: Attempt) -> None:
    took = output.span(attempt.duration)
    output.line()
    output.line(f"attempt {attempt.number}: {attempt.outcome}{f' after {took}' if took else ''}")
    output.fields(
        [
            ("  started", output.time(attempt.started_at)),
            ("  ended", output.time(attempt.finished_at)),
            ("  worker", attempt.worker),
            ("  kind", attempt.error.kind if attempt.error else ""),
            ("  error", (attempt.error.traceback.rstrip() or attempt.error) if attempt.error else ""),
        ]
    )


def why(app: Windlass, *, job_id: Id, as_json: Json = False) -> None:
    """Say why a job is where it is: what it waits for, who runs it, or how it ended."""
    answer = app.why(job_id)
    if as_json:
        reasons = [{"code": code, "text": text} for code, text in answer.reasons]
        output.json({"id": job_id, "status": answer.job.status, "code": answer.code, "reasons": reasons})
        return
    output.line(f"job {job_id} {answer.job.task} is {answer.job.status}:")
    for _, text in answer.reasons:
        output.line(f"  {text}")
