"""What the pages show, and what their buttons do."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from wsgiref.simple_server import make_server

import pytest

from tests.dashboard.conftest import Browser, served
from tests.waiting import until
from windlass import StoreError, Windlass, chain
from windlass.dashboard import Dashboard
from windlass.dashboard.access import FREE
from windlass.dashboard.live import Live
from windlass.dashboard.pages import jobs as pages_of_jobs
from windlass.dashboard.pages import overview
from windlass.dashboard.redaction import HIDDEN, Redactor

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.redis import Redis
    from windlass import Job

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
PAGES = (
    "/", "/queues", "/jobs", "/failures", "/batches", "/schedules", "/workers", "/store", "/audit",
)  # fmt: skip


def dead(app: Windlass, message: str = "no route", task: str = "send", **options: object) -> Job:
    """A job that has died."""
    job = app.enqueue(task, {"to": "ada"}, max_attempts=1, **options)  # type: ignore[arg-type]
    claim = app.claim(queue=job.queue)
    assert claim is not None
    claim.nack(error=ValueError(message))
    return job.refresh()


def test_what_is_stored_shows_as_text(app: Windlass, browser: Callable[..., Browser]) -> None:
    """In every place where a stored text may be shown."""

    @app.task(name=EVIL)
    def work(to: str) -> None: ...

    job = dead(app, EVIL, EVIL, queue=EVIL, tags=[EVIL], origin=EVIL, meta={EVIL: EVIL}, idempotency_key=EVIL)
    app.schedules.add(EVIL, "0 2 * * *", task=EVIL, payload={"to": EVIL})
    with app.batch(EVIL, origin=EVIL) as batch:
        batch.add(work.job(EVIL))
    app.record_action(EVIL, EVIL, EVIL, detail=EVIL)
    app.pause(queue=EVIL)
    one = browser("admin")
    found = ""
    for path in (
        *PAGES,
        f"/jobs/{job.id}",
        f"/batches/{batch.id}",
        "/jobs?status=dead&error=" + EVIL,
        "/jobs?queue=" + EVIL,
    ):
        response = one.get(path)
        assert response.status_code == 200, path
        assert "<script>alert" not in response.text, path
        assert "<img src=x" not in response.text, path
        found += response.text
    assert found.count("&lt;script&gt;alert") > 20


def test_the_overview_puts_problems_first(app: Windlass, browser: Callable[..., Browser]) -> None:
    app.enqueue("a", {}, queue="fine")
    app.enqueue("a", {}, queue="zz paused")
    app.pause(queue="zz paused")
    with app.worker(queues=["fine", "zz paused"]):
        text = browser("reader").get("/").text
    assert text.index("zz paused") < text.index(">fine<")
    assert "paused" in text


def test_jobs_are_found_by_filters_and_in_pages(app: Windlass, browser: Callable[..., Browser]) -> None:
    jobs = [app.enqueue("t", {"n": n}, tags=["x"] if n == 5 else []) for n in range(120)]
    one = browser("reader")
    first = one.get("/jobs").text
    assert "120 jobs match" in first
    older = re.search(r'href="([^"]+)" rel="next"', first)
    assert older is not None
    second = one.get(older[1].replace("&amp;", "&")).text
    ids = [{int(n) for n in re.findall(r">#(\d+)<", text)} for text in (first, second)]
    assert ids[0] == {job.id for job in jobs[70:]}
    assert ids[1] == {job.id for job in jobs[20:70]}
    assert "1 job match" in one.get("/jobs?tag=x").text
    assert "No job matches" in one.get("/jobs?status=dead&queue=default").text
    wrong = one.get("/jobs?batch=x")
    assert wrong.status_code == 400
    assert "batch must be a number" in wrong.text


def test_a_page_goes_without_a_number_that_takes_too_long(
    app: Windlass, browser: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task(tags=["x"])
    def work() -> None: ...

    app.enqueue_many([work.job() for _ in range(5000)])
    monkeypatch.setattr(pages_of_jobs, "COUNTING", 0.0)
    one = browser("operator")
    assert "too many to be counted quickly" in one.get("/jobs?tag=x").text
    preview = one.act("/jobs/bulk", action="cancel", all="1", tag="x").text
    assert "Cancel all that match?" in preview
    assert "… and more." in preview


def test_a_job_shows_all_that_is_known(app: Windlass, browser: Callable[..., Browser]) -> None:
    job = dead(app, "no route to host")
    text = browser("reader").get(f"/jobs/{job.id}").text
    for part in ("no route to host", "failed", "ValueError", "&#34;to&#34;", "1 of 1 failed"):
        assert part in text
    waiting = app.enqueue("nobody-knows-it", {})
    assert "no worker is running" in browser("reader").get(f"/jobs/{waiting.id}").text
    first = app.task(name="first")(lambda: None)
    chained = chain(first.job(), first.job()).enqueue()
    assert "Followed by" in browser("reader").get(f"/jobs/{chained.id}").text
    missing = browser("reader").get("/jobs/999")
    assert (missing.status_code, "999" in missing.text) == (404, True)


@pytest.mark.parametrize("way", ["ids", "all"])
def test_many_jobs_are_changed_after_a_preview(app: Windlass, browser: Callable[..., Browser], way: str) -> None:
    jobs = [dead(app) for _ in range(3)]
    app.enqueue("other", {})
    one = browser("admin")
    fields = {"id": [job.id for job in jobs]} if way == "ids" else {"all": "1", "status": "dead"}
    preview = one.act("/jobs/bulk", action="retry", **fields)
    assert preview.status_code == 200
    assert "Retry 3 jobs?" in preview.text
    assert app.stats().dead == 3
    done = one.act("/jobs/bulk", action="retry", confirmed="1", **fields)
    assert done.status_code == 303
    assert "3 retried." in one.get(done.headers["location"]).text
    assert app.stats().dead == 0
    [action] = app.audit()
    assert (action.actor, action.action, action.done) == ("admin", "retry", 3)


def test_what_is_refused_is_said_and_written_down(app: Windlass, browser: Callable[..., Browser]) -> None:
    job = app.enqueue("t", {})
    one = browser("operator")
    refused = one.act(f"/jobs/{job.id}/retry")
    assert refused.status_code == 409
    [action] = app.audit()
    assert (action.actor, action.done, action.refused) == ("operator", 0, 1)
    assert one.act("/jobs/bulk", action="delete", id=job.id, confirmed="1").status_code == 403
    assert one.act("/jobs/bulk", action="burn", id=job.id).status_code == 400


def test_the_buttons_do_what_they_say(app: Windlass, browser: Callable[..., Browser]) -> None:
    one = browser("admin")
    job = app.enqueue("t", {"n": 1, "password": "x"}, delay=500)
    one.act(f"/jobs/{job.id}/run-now")
    assert job.refresh().status == "pending"
    one.act(f"/jobs/{job.id}/cancel")
    assert job.refresh().status == "cancelled"
    one.act(f"/jobs/{job.id}/again", payload=f'{{"n": 2, "password": "{HIDDEN}"}}', queue="mail", priority="-3")
    again = app.jobs(queue="mail")[0]
    assert (again.payload, again.priority) == ({"n": 2, "password": "x"}, -3)
    assert one.act(f"/jobs/{job.id}/again", payload="{").status_code == 422
    one.act(f"/jobs/{job.id}/delete")
    assert app.count(status="cancelled") == 0
    one.act("/queues/mail/pause")
    assert ("queue", "mail") in app.driver.pauses()
    one.act("/queues/mail/resume")
    one.act("/tasks/t/pause")
    assert app.driver.pauses() == {("task", "t")}
    one.act("/tasks/t/resume")
    one.act("/limits", kind="queue", name="mail", most="3", per="")
    [limit] = app.limits()
    assert (limit.key, limit.most, limit.pinned) == ("queue:mail", 3, True)
    one.act("/limits/drop", key="queue:mail")
    assert not any(one.pinned for one in app.limits())
    assert one.act("/limits", kind="queue", name="mail", most="many", per="").status_code == 422
    app.schedules.add("nightly", "0 2 * * *", task="t", payload={"n": 1})
    one.act("/schedules/nightly/pause")
    assert app.schedules.get("nightly").paused
    one.act("/schedules/nightly/resume")
    one.act("/schedules/nightly/trigger")
    assert "nightly" in one.get("/schedules/nightly/history").text
    with app.worker(queues=["nothing"]) as worker:
        one.act(f"/workers/{worker.id}/quiet")
        until(lambda: app.workers()[0].quiet)
        one.act(f"/workers/{worker.id}/resume")
    group = dead(app, queue="graves")
    one.act(f"/failures/{app.failures()[0].fingerprint}/retry")
    assert group.refresh().status == "pending"
    assert {action.actor for action in app.audit()} == {"admin"}
    assert len(app.audit()) >= 14


def test_secrets_are_hidden() -> None:
    hide = Redactor(["colour"], hook=lambda task, value: {**value, "task": task})
    shown = hide(
        "t",
        {
            "dbPassword": "x",
            "access_token": "y",
            "author": "ada",
            "Colour": 1,
            "deep": [{"API_KEY": "z"}],
            "pin": None,
            "mypassword": "v",
            "password2": "w",
            "max_tokens": 5,
        },
    )
    assert shown == {
        "dbPassword": HIDDEN, "access_token": HIDDEN, "author": "ada", "Colour": HIDDEN, "deep": [{"API_KEY": HIDDEN}],
        "pin": None, "mypassword": HIDDEN, "password2": HIDDEN, "max_tokens": 5, "task": "t",
    }  # fmt: skip


def test_secrets_are_on_no_page(app: Windlass, browser: Callable[..., Browser]) -> None:
    job = app.enqueue("t", {"user": "ada", "secret": "hunter2"}, meta={"token": "hunter2"})
    one = browser("admin")
    for path in ("/jobs", f"/jobs/{job.id}"):
        text = one.get(path).text
        assert "hunter2" not in text
        assert "ada" in text


def test_fifty_viewers_cost_the_store_what_one_does(app: Windlass) -> None:
    looks = []
    now = [0.0]

    class Counted:
        def stats(self) -> object:
            looks.append(1)
            return app.stats()

    live = Live(Counted(), lambda: now[0])  # type: ignore[arg-type]
    for second in range(10):
        now[0] = float(second)
        for _ in range(50):
            live.numbers()
    assert len(looks) == 5


def test_a_store_that_is_away_is_asked_no_more_often(app: Windlass) -> None:
    looks = []
    now = [0.0]

    class Away:
        def stats(self) -> object:
            looks.append(1)
            raise StoreError("away")

    live = Live(Away(), lambda: now[0])  # type: ignore[arg-type]
    for second in range(10):
        now[0] = float(second)
        for _ in range(50):
            with pytest.raises(StoreError):
                live.numbers()
    assert len(looks) == 5


def test_nobody_waits_for_another_to_look() -> None:
    inside, go_on = threading.Event(), threading.Event()

    class Hanging:
        def stats(self) -> object:
            inside.set()
            assert go_on.wait(10)
            raise StoreError("away")

    live = Live(Hanging())  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(live.numbers)
        assert inside.wait(10)
        assert live.numbers() == {}
        go_on.set()
        assert isinstance(first.exception(10), StoreError)


def test_a_stream_ends_so_that_whoever_has_logged_out_is_asked_again(
    browser: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "LOOKS", 1)
    one = browser("reader")
    assert "total.pending" in one.get("/live").text
    one.act("/logout")
    assert one.get("/live").status_code == 401


def test_it_can_be_mounted_under_a_prefix(app: Windlass) -> None:
    """Links, forms and cookies stay below it."""
    from starlette.applications import Starlette
    from starlette.routing import Mount

    outer = Starlette(routes=[Mount("/ops/jobs", Dashboard(app, password="pw"))])
    with served(outer) as address, Browser(base_url=f"{address}/ops/jobs", follow_redirects=False) as one:
        assert one.get("/").headers["location"].startswith("/ops/jobs/login")
        assert one.enter("admin", "pw").headers["location"] == "/ops/jobs/"
        page = one.get("/")
        assert page.status_code == 200
        assert all(
            link.startswith(("/ops/jobs/", "#")) for link in re.findall(r'(?:href|src|action)="([^"]+)"', page.text)
        )


def test_it_can_be_served_by_wsgi(app: Windlass) -> None:
    """Then browsers ask instead of listening."""
    site = Dashboard(app, password="pw")
    with make_server("127.0.0.1", 0, site.wsgi()) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with Browser(base_url=f"http://127.0.0.1:{server.server_port}", follow_redirects=False) as one:
            assert one.enter("admin", "pw").status_code == 303
            page = one.get("/").text
            assert 'data-updates="poll"' in page
            assert one.get("/live.json").json()["total.pending"] == "0"
            for _ in range(FREE):
                assert one.enter("admin", "wrong").status_code == 401
            assert site.attempts.wait("127.0.0.1") > 0
        server.shutdown()
        thread.join()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_store_that_is_away_is_said(new_redis: Callable[..., Redis]) -> None:
    """On the page and by the probe; and it is back when the store is."""
    server = new_redis()
    with (
        Windlass(server.url()) as app,
        served(Dashboard(app, password="pw")) as address,
        Browser(base_url=address, follow_redirects=False, timeout=60) as one,
    ):
        assert one.enter("admin", "pw").status_code == 303
        assert one.get("/readyz").status_code == 200
        server.kill()
        assert one.get("/").status_code == 503
        assert one.get("/readyz").status_code == 503
        assert one.get("/healthz").status_code == 200
        server.start()
        until(lambda: one.get("/").status_code == 200)


def test_what_is_not_there_is_said(browser: Callable[..., Browser]) -> None:
    one = browser("reader")
    page = one.get("/nowhere")
    assert (page.status_code, "nothing here" in page.text) == (404, True)
    assert one.post("/queues").status_code == 405
    assert one.get("/api/nowhere").json()["status"] == 404
