"""The API: what programs get, what is refused, and that its document tells the truth."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from prometheus_client.parser import text_string_to_metric_families

from tests.dashboard.conftest import served
from tests.waiting import until
from windlass import Windlass
from windlass.dashboard import Dashboard
from windlass.dashboard.api.document import document
from windlass.dashboard.api.routes import ROUTES
from windlass.dashboard.redaction import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def api(address: str) -> Iterator[httpx.Client]:
    """A program with the role admin."""
    headers = {"authorization": "Bearer admin-token"}
    with httpx.Client(base_url=address, headers=headers, timeout=20) as client:
        yield client


def dead(app: Windlass) -> int:
    job = app.enqueue("send", {"to": "ada", "token": "x"}, max_attempts=1)
    claim = app.claim()
    assert claim is not None
    claim.nack(error=ValueError("no route"))
    return job.id


def test_jobs_are_enqueued_found_and_changed(app: Windlass, api: httpx.Client) -> None:
    made = api.post("/api/jobs", json={"task": "t", "payload": {"n": 1, "password": "x"}, "queue": "mail", "delay": 60})
    assert made.status_code == 201
    job = made.json()
    assert (job["status"], job["queue"], job["payload"]) == ("scheduled", "mail", {"n": 1, "password": HIDDEN})
    assert app.get(job["id"]).payload == {"n": 1, "password": "x"}
    assert (
        api.get("/api/jobs", params={"status": ["scheduled", "dead"], "queue": "mail"}).json()["jobs"][0]["id"]
        == job["id"]
    )
    assert api.get("/api/jobs/count", params={"status": "scheduled"}).json() == {"count": 1, "exact": True}
    assert api.post(f"/api/jobs/{job['id']}/run-now").json()["status"] == "pending"
    assert api.get(f"/api/jobs/{job['id']}/why").json()[0]["code"] == "no-worker"
    assert api.post(f"/api/jobs/{job['id']}/cancel").json()["status"] == "cancelled"
    assert api.post(f"/api/jobs/{job['id']}/retry", json={}).json()["status"] == "pending"
    assert api.delete(f"/api/jobs/{job['id']}").json() == {"ok": True}
    assert api.get(f"/api/jobs/{job['id']}").status_code == 404
    assert [a.action for a in app.audit()] == ["delete", "retry", "cancel", "run now", "enqueue"]
    assert {a.actor for a in app.audit()} == {"admin"}


def test_pages_go_on_where_the_last_one_ended(app: Windlass, api: httpx.Client) -> None:
    for number in range(5):
        app.enqueue("t", {"n": number})
    seen: list[int] = []
    after: dict[str, Any] = {}
    while True:
        page = api.get("/api/jobs", params={"limit": 2, **after}).json()
        seen += [job["id"] for job in page["jobs"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert seen == [5, 4, 3, 2, 1]


def test_many_jobs_are_changed_by_ids_or_filter(app: Windlass, api: httpx.Client) -> None:
    ids = [dead(app) for _ in range(3)]
    answer = api.post("/api/jobs/retry", json={"ids": [ids[0], 99]}).json()
    assert (answer["done"], list(answer["refused"])) == ([ids[0]], ["99"])
    [group] = api.get("/api/failures").json()
    assert (group["dead"], group["newest"]["payload"]["token"]) == (2, HIDDEN)
    answer = api.post("/api/jobs/retry", json={"filter": {"error": group["fingerprint"], "status": ["dead"]}}).json()
    assert sorted(answer["done"]) == ids[1:]
    assert api.post("/api/jobs/cancel", json={"filter": {"task": "send"}}).json()["more"] is False
    assert api.post("/api/jobs/delete", json={}).status_code == 422


def test_what_is_refused_says_why(app: Windlass, api: httpx.Client) -> None:
    @app.task
    def known(n: int) -> None: ...

    job = known.enqueue(1)
    for answer, status in (
        (api.get("/api/jobs/99"), 404),
        (api.get("/api/jobs?limit=0"), 422),
        (api.get("/api/jobs?nonsense=1"), 422),
        (api.get("/api/jobs?created_after=2030-01-01T00:00:00"), 422),
        (api.post(f"/api/jobs/{job.id}/retry", json={}), 409),
        (api.post("/api/jobs", content=b"{"), 400),
        (api.post("/api/jobs", json={"task": "known", "payload": {"m": 1}}), 422),
        (api.post("/api/jobs", json={"task": "known", "surprise": 1}), 422),
        (api.post("/api/workers/w/quiet"), 404),
        (api.post("/api/jobs", content=b"x" * (3 << 20)), 413),
    ):
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert (problem["status"], bool(problem["detail"])) == (status, True)


def test_the_rest_can_be_read_and_changed(app: Windlass, api: httpx.Client) -> None:
    app.schedules.add("nightly", "0 2 * * *", task="t", payload={"secret": "x"})
    with app.batch("b") as batch:
        batch.add()
    assert api.post("/api/queues/mail/pause").json() == {"ok": True}
    assert api.get("/api/queues").json()[0] == api.get("/api/queues").json()[0] | {"name": "mail", "paused": True}
    api.post("/api/tasks/t/pause")
    assert app.driver.pauses() == {("queue", "mail"), ("task", "t")}
    api.post("/api/queues/mail/resume")
    api.post("/api/tasks/t/resume")
    assert app.driver.pauses() == set()
    assert api.post("/api/limits", json={"most": 2, "queue": "mail"}).json()[0]["key"] == "queue:mail"
    assert api.post("/api/limits/drop", json={"key": "queue:mail"}).json() == {"ok": True}
    assert api.post("/api/schedules/nightly/pause").json()["paused"] is True
    assert api.post("/api/schedules/nightly/resume").json()["payload"] == {"secret": HIDDEN}
    assert api.post("/api/schedules/nightly/trigger").status_code == 200
    assert api.get("/api/schedules").json()[0]["timezone"] == "UTC"
    assert api.get("/api/batches").json()[0]["name"] == "b"
    assert api.get(f"/api/batches/{batch.id}").json()["total"] == 0
    for path in ("stats", "throughput", "samples", "measures", "limits", "workers", "store", "audit"):
        assert api.get(f"/api/{path}").status_code == 200, path


def test_health_is_for_everybody_and_tells_nothing(address: str) -> None:
    for path in ("/healthz", "/readyz"):
        answer = httpx.get(f"{address}{path}")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_metrics_tell_of_the_whole_fleet(app: Windlass, api: httpx.Client) -> None:
    """As Prometheus reads them; totals stay when jobs go."""

    @app.task(queue="mail")
    def work(n: int) -> None: ...

    app.enqueue_many([work.job(n) for n in range(3)])
    with app.worker():
        until(lambda: app.stats().completed == 3)
    app.delete_many(status="completed")
    answer = api.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = {
        (sample.name, sample.labels.get("queue"), sample.labels.get("status") or sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["windlass_processed_total", "mail", None] == 3
    assert found["windlass_jobs", "mail", "completed"] == 0
    assert found["windlass_run_seconds_count", "mail", None] == 3
    assert found["windlass_wait_seconds_bucket", "mail", "+Inf"] == 3
    assert found["windlass_workers", None, None] == 0


def test_the_grafana_dashboard_names_metrics_that_there_are(app: Windlass, api: httpx.Client) -> None:
    dead(app)
    told = {
        sample.name for family in text_string_to_metric_families(api.get("/metrics").text) for sample in family.samples
    } | {"windlass_wait_seconds_bucket", "windlass_run_seconds_bucket"}
    board = api.get("/static/grafana.json").json()
    named = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"windlass_\w+", target["expr"])
    }
    assert len(named) > 8
    assert named <= told


def test_the_document_has_every_route() -> None:
    paths = document("1", "")["paths"]
    assert sum(len(methods) for methods in paths.values()) == len(ROUTES)
    operations = [operation for methods in paths.values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(ROUTES)


def test_the_document_is_served(api: httpx.Client) -> None:
    assert api.get("/api/openapi.json").json()["openapi"] == "3.1.0"


@pytest.mark.slow
def test_no_request_breaks_it_or_gets_an_answer_that_is_not_in_the_document(tmp_path: Path) -> None:
    """Requests made from the document, right and wrong ones."""
    with Windlass(f"sqlite:///{tmp_path}/jobs.db", durability="relaxed") as app:
        dead(app)
        app.schedules.add("nightly", "0 2 * * *", task="t", payload={})
        with served(Dashboard(app, tokens={"t": "admin"})) as address:
            _examine(address)


def _examine(address: str) -> None:
    told = httpx.get(f"{address}/api/openapi.json", headers={"authorization": "Bearer t"}).json()
    told["servers"] = [{"url": address}]
    schema = schemathesis.openapi.from_dict(told)
    schema.config.update(base_url=address)
    schemathesis.checks.load_all_checks()
    checks = schemathesis.checks.CHECKS.get_by_names(
        ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"]
    )
    for operation in schema.get_all_operations():
        for mode in schemathesis.GenerationMode:
            _try(operation.ok().as_strategy(generation_mode=mode), checks)


def _try(cases: Any, checks: list[Any]) -> None:
    @settings(
        max_examples=10,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def attempt(case: Any) -> None:
        response = case.call(headers={"authorization": "Bearer t"})
        case.validate_response(response, checks=checks)

    attempt()
