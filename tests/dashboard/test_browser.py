"""The pages in a real browser: wide and narrow, light and dark, without a script, by keyboard, and for everybody."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.dashboard.conftest import served
from tests.waiting import until
from tools.screenshots import CHROMIUM, SCHEMES, SIZES, chromium, fill
from windlass import Windlass
from windlass.dashboard import Dashboard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

REQUIRED = os.environ.get("WINDLASS_REQUIRE", "").split(",")
AXE = "4.10.3"
OUTPUT = Path("build/screenshots")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM and "chromium" not in REQUIRED, reason="there is no Chromium here"),
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture(scope="module")
def app() -> Iterator[Windlass]:
    """A store with some of everything."""
    with Windlass("memory://", beat=0.3, poll=0.05) as app:
        yield app


@pytest.fixture(scope="module")
def pages(app: Windlass) -> dict[str, str]:
    """What there is to see."""
    return fill(app)


@pytest.fixture(scope="module")
def address(app: Windlass, pages: dict[str, str]) -> Iterator[str]:
    """Where it is served."""
    with served(Dashboard(app, password="pw")) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The accessibility checker, from the npm registry."""
    folder = tmp_path_factory.mktemp("axe")
    npm = shutil.which("npm")
    packed = npm and subprocess.run(
        [npm, "pack", f"axe-core@{AXE}"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    if not packed or packed.returncode:
        if "axe" in REQUIRED:
            pytest.fail("axe-core cannot be had from npm")
        pytest.skip("axe-core cannot be had: no npm, or it does not reach its registry")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        source = archive.extractfile("package/axe.min.js")
        assert source is not None
        return source.read().decode()


def enter(page: Page, address: str) -> None:
    """Log in."""
    page.goto(f"{address}/login")
    page.fill("[name=password]", "pw")
    page.click("button.main")
    page.wait_for_selector("header")


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        pytest.param(size, scheme, marks=[] if (size == "wide") == (scheme == "light") else pytest.mark.soak)
        for size in SIZES
        for scheme in SCHEMES
    ],
)
def test_every_page_is_there_and_for_everybody(
    request: pytest.FixtureRequest, browser: Browser, address: str, size: str, scheme: str
) -> None:
    """No error in the console, nothing wider than the window, no violation that axe knows."""
    pages: dict[str, str] = request.getfixturevalue("pages")
    axe: str = request.getfixturevalue("axe")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    width, height = SIZES[size]
    view = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    page = view.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    enter(page, address)
    for name, path in pages.items():
        page.goto(f"{address}{path}")
        page.screenshot(path=OUTPUT / f"{name}-{size}-{scheme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (name, "is too wide")
        page.evaluate(axe)
        found = page.evaluate("axe.run()")["violations"]
        assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found] == [], name
    assert errors == []
    view.close()


def test_pages_can_be_read_without_a_script(browser: Browser, address: str, pages: dict[str, str]) -> None:
    view = browser.new_context(java_script_enabled=False)
    page = view.new_page()
    enter(page, address)
    for name, path in pages.items():
        page.goto(f"{address}{path}")
        assert page.inner_text("h1"), name
        assert len(page.inner_text("main")) > 20, name
    page.goto(f"{address}/jobs?status=dead")
    assert "LookupError" in page.inner_text("main")
    view.close()


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def tab_to(page: Page, what: str) -> None:
    """Go on with the Tab key until something has the focus."""
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("what => document.activeElement.matches(what)", what):
            return
    raise AssertionError(f"the Tab key does not lead to {what}")


def test_a_dead_job_is_found_and_retried_by_keyboard(browser: Browser, address: str, app: Windlass) -> None:
    """From the failure to the audit, without a mouse."""
    before = app.stats().dead
    page = browser.new_page()
    enter(page, address)
    tab_to(page, 'nav a[href="/failures"]')
    press(page, "Enter")
    page.wait_for_url("**/failures")
    tab_to(page, 'tbody a[href*="/jobs?"]')
    press(page, "Enter")
    page.wait_for_url("**/jobs?*")
    page.keyboard.press("j")
    press(page, "Enter")
    page.wait_for_selector("h2:has-text('Last error')")
    tab_to(page, 'form[action$="/retry"] button')
    press(page, "Enter")
    page.wait_for_selector(".said")
    assert "will be tried again" in page.inner_text(".said")
    assert app.stats().dead == before - 1
    page.goto(f"{address}/audit")
    assert "admin" in page.inner_text("tbody tr:first-child")
    page.close()


def test_many_jobs_are_selected_by_keyboard_and_cancelled_after_a_preview(
    browser: Browser, address: str, app: Windlass
) -> None:
    jobs = [app.enqueue("never", {"n": n}, queue="by keyboard") for n in range(3)]
    page = browser.new_page()
    enter(page, address)
    page.goto(f"{address}/jobs?queue=by+keyboard")
    press(page, "j", "x", "j", "x")
    assert page.locator('input[name="id"]:checked').count() == 2
    page.focus('button[value="cancel"]')
    press(page, "Enter")
    page.wait_for_selector("h1:has-text('Cancel 2 jobs?')")
    tab_to(page, "main form button")
    press(page, "Enter")
    page.wait_for_selector(".said")
    assert sorted(job.refresh().status.value for job in jobs) == ["cancelled", "cancelled", "pending"]
    page.close()


def test_numbers_change_while_one_looks(browser: Browser, address: str, app: Windlass) -> None:
    """Without loading the page again."""
    page = browser.new_page()
    enter(page, address)
    place = page.locator('[data-number="total.pending"]').first
    before = int(place.inner_text())
    page.evaluate("window.same = true")
    app.enqueue("never", {}, queue="live")
    until(lambda: int(place.inner_text()) > before, every=0.2)
    assert page.evaluate("window.same")
    page.close()


def act(page: Page, path: str, action: str) -> str:
    """Go to a page and press one of its buttons by keyboard; return what it then says."""
    page.goto(path)
    tab_to(page, f'form[action$="{action}"] button')
    press(page, "Enter")
    page.wait_for_selector(".said")
    return page.inner_text(".said")


def test_the_buttons_of_queues_and_jobs_do_what_they_say_by_keyboard(
    browser: Browser, address: str, app: Windlass
) -> None:
    """Those of tasks and limits, too."""
    page = browser.new_page()
    enter(page, address)
    job = app.enqueue("by hand", {"n": 1}, queue="by hand", delay=3600)
    one = f"{address}/jobs/{job.id}"
    assert "is paused" in act(page, f"{address}/queues", "/queues/by%20hand/pause")
    assert ("queue", "by hand") in app.driver.pauses()
    assert "is resumed" in act(page, f"{address}/queues", "/queues/by%20hand/resume")
    assert "is paused" in act(page, f"{address}/queues", "/tasks/by%20hand/pause")
    assert "is resumed" in act(page, f"{address}/queues", "/tasks/by%20hand/resume")
    assert not {("queue", "by hand"), ("task", "by hand")} & app.driver.pauses()
    page.goto(f"{address}/queues")
    page.fill('form[action$="/limits"] [name="name"]', "by hand")
    page.fill('form[action$="/limits"] [name="most"]', "3")
    press(page, "Enter")
    page.wait_for_selector(".said")
    assert any(limit.key == "queue:by hand" and limit.pinned for limit in app.limits())
    assert "forgotten" in act(page, f"{address}/queues", "/limits/drop")
    assert "available now" in act(page, one, "/run-now")
    assert job.refresh().status == "pending"
    assert "cancelled" in act(page, one, "/cancel")
    assert "tried again" in act(page, one, "/retry")
    page.goto(one)
    tab_to(page, "details.again summary")
    press(page, "Enter")
    tab_to(page, 'form[action$="/again"] button')
    press(page, "Enter")
    page.wait_for_selector(".said")
    assert app.count(queue="by hand") == 2
    assert "is deleted" in act(page, one, "/delete")
    assert app.count(queue="by hand") == 1
    page.close()


def test_the_other_buttons_do_what_they_say_by_keyboard(browser: Browser, address: str, app: Windlass) -> None:
    """Those of failures, batches, schedules, workers, and the way out."""
    page = browser.new_page()
    enter(page, address)
    app.enqueue("dies", {}, queue="dies", max_attempts=1)
    claim = app.claim("dies")
    assert claim is not None
    claim.nack(error=OSError("the newest of the failures"))
    assert "1 retried" in act(page, f"{address}/failures", "/retry")
    with app.batch("by hand") as batch:
        batch.add(app.tasks["report"].using(queue="a batch by hand").job("2030"))
    assert "1 jobs" in act(page, f"{address}/batches/{batch.id}", "/cancel")
    schedule = "/schedules/monthly%20report"
    assert "is paused" in act(page, f"{address}/schedules", f"{schedule}/pause")
    assert "is resumed" in act(page, f"{address}/schedules", f"{schedule}/resume")
    app.cancel_many(queue="reports", status="pending")  # else the last one is in the way
    assert "triggered" in act(page, f"{address}/schedules", f"{schedule}/trigger")
    with app.worker(queues=["nothing"]) as worker:
        assert "claim nothing more" in act(page, f"{address}/workers", f"/workers/{worker.id}/quiet")
        until(lambda: any(w.id == worker.id and w.quiet for w in app.workers()))
        assert "claim again" in act(page, f"{address}/workers", f"/workers/{worker.id}/resume")
        assert "stop" in act(page, f"{address}/workers", f"/workers/{worker.id}/stop")
        until(lambda: not worker.alive)
    page.goto(address)
    tab_to(page, 'form[action$="/logout"] button')
    press(page, "Enter")
    page.wait_for_selector("[name=password]")
    page.close()
