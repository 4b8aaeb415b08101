"""Everything that can be asked for, with the role it takes.

The guard, the tests of who may do what, and the API's document are made from this table: nothing can be forgotten there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from windlass.dashboard import telling
from windlass.dashboard.access import Role
from windlass.dashboard.api.routes import ROUTES
from windlass.dashboard.pages import acts, batches, bulk, failures, jobs, login, overview, queues, schedules, workers


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One row."""

    method: str
    path: str
    role: Role
    answer: Callable[..., Any]
    name: str
    page: bool = True
    """HTML for people; else JSON or text for programs."""
    streams: bool = False
    """The endpoint is a coroutine and its answer goes on."""


def _page(path: str, answer: Callable[..., Any], name: str, role: Role = Role.READ) -> Entry:
    return Entry(method="GET", path=path, role=role, answer=answer, name=name)


def _act(path: str, answer: Callable[..., Any], name: str, role: Role = Role.OPERATE) -> Entry:
    return Entry(method="POST", path=path, role=role, answer=answer, name=name)


def _told(path: str, answer: Callable[..., Any], name: str, role: Role = Role.READ) -> Entry:
    return Entry(method="GET", path=path, role=role, answer=answer, name=name, page=False)


TABLE: tuple[Entry, ...] = (
    _page("/login", login.form, "login", Role.NOBODY),
    _act("/login", login.enter, "enter", Role.NOBODY),
    _act("/logout", login.leave, "logout", Role.NOBODY),
    _page("/", overview.page, "overview"),
    _page("/queues", queues.page, "queues"),
    _act("/queues/{name:path}/pause", acts.pause_queue, "pause_queue"),
    _act("/queues/{name:path}/resume", acts.resume_queue, "resume_queue"),
    _act("/tasks/{name:path}/pause", acts.pause_task, "pause_task"),
    _act("/tasks/{name:path}/resume", acts.resume_task, "resume_task"),
    _act("/limits", acts.set_limit, "set_limit", Role.ADMIN),
    _act("/limits/drop", acts.drop_limit, "drop_limit", Role.ADMIN),
    _page("/jobs", jobs.listed, "jobs"),
    _act("/jobs/bulk", bulk.bulk, "bulk"),
    _page("/jobs/{id:int}", jobs.shown, "job"),
    _act("/jobs/{id:int}/retry", acts.retry, "retry"),
    _act("/jobs/{id:int}/cancel", acts.cancel, "cancel"),
    _act("/jobs/{id:int}/run-now", acts.run_now, "run_now"),
    _act("/jobs/{id:int}/again", acts.again, "again"),
    _act("/jobs/{id:int}/delete", acts.delete, "delete", Role.ADMIN),
    _page("/failures", failures.page, "failures"),
    _act("/failures/{fingerprint}/retry", acts.retry_group, "retry_group"),
    _page("/batches", batches.listed, "batches"),
    _page("/batches/{id:int}", batches.shown, "batch"),
    _act("/batches/{id:int}/cancel", acts.cancel_batch, "cancel_batch"),
    _page("/schedules", schedules.listed, "schedules"),
    _page("/schedules/{name:path}/history", schedules.shown, "schedule"),
    _act("/schedules/{name:path}/pause", acts.pause_schedule, "pause_schedule"),
    _act("/schedules/{name:path}/resume", acts.resume_schedule, "resume_schedule"),
    _act("/schedules/{name:path}/trigger", acts.trigger_schedule, "trigger_schedule"),
    _page("/workers", workers.page, "workers"),
    _act("/workers/{id}/quiet", acts.quiet_worker, "quiet_worker"),
    _act("/workers/{id}/resume", acts.resume_worker, "resume_worker"),
    _act("/workers/{id}/stop", acts.stop_worker, "stop_worker", Role.ADMIN),
    _page("/store", workers.store, "store"),
    _page("/audit", workers.audit, "audit"),
    _told("/metrics", telling.metrics, "metrics"),
    _told("/api/openapi.json", telling.openapi, "openapi"),
    _told("/healthz", telling.alive, "alive", Role.NOBODY),
    _told("/readyz", telling.ready, "ready", Role.NOBODY),
    *(
        Entry(method=one.method, path=one.path, role=one.role, answer=one.operation, name=one.name, page=False)
        for one in ROUTES
    ),
    Entry(method="GET", path="/live", role=Role.READ, answer=overview.stream, name="live", page=False, streams=True),
    Entry(method="GET", path="/live.json", role=Role.READ, answer=overview.numbers, name="live_json", page=False),
)
