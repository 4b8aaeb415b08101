"""Every command but the worker, run in this process; the worker is a claim by hand."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.programs import Program
from windlass import Progress, Windlass
from windlass.drivers.base import Note, Turn
from windlass.drivers.base import Worker as Card
from windlass.terms import Terms, terms_of

Run = Callable[..., Any]
URL = ("--url", "sqlite:///jobs.db")


@pytest.fixture
def dead(store: Windlass) -> int:
    """A job that has died."""
    job = store.enqueue("send", {"to": "ada"}, max_attempts=1, tags=["mail"])
    claim = store.claim()
    assert claim is not None
    claim.nack(error=ValueError("no route\x1b[31m"))
    assert job.refresh().status == "dead"
    return job.id


def test_enqueue_stores_what_was_said(shop: Path, windlass: Run) -> None:
    """Every option reaches the job."""
    answer = windlass(
        "enqueue", "shop:app", "double", "number=4", "--delay", "1h", "--queue", "mail", "--priority", "7",
        "--max-attempts", "9", "--timeout", "30s", "--tag", "a", "--tag", "b", "--origin", "shell", "--meta", '{"k": 1}', "--json",
    )  # fmt: skip
    job = json.loads(answer.out)
    picked = {name: job[name] for name in ("task", "queue", "status", "payload", "priority", "max_attempts", "timeout")}
    assert picked == {
        "task": "double", "queue": "mail", "status": "scheduled", "payload": {"number": 4}, "priority": 7,
        "max_attempts": 9, "timeout": 30.0,
    }  # fmt: skip
    assert (job["tags"], job["origin"], job["meta"]) == (["a", "b"], "shell", {"k": 1})


def test_enqueue_says_until_when_a_job_is_of_use(shop: Path, windlass: Run, store: Windlass) -> None:
    """The terms are stored with the job."""
    job = json.loads(
        windlass("enqueue", "shop:app", "double", "number=4", "--expires", "5m", "--deadline", "1h", "--json").out
    )
    record = store.driver.get(job["id"])
    assert record is not None
    assert terms_of(record) == Terms(expires=300, deadline=3600)


def test_enqueue_reads_standard_input(shop: Path, windlass: Run) -> None:
    """``-`` takes a payload that is too long for a command line."""
    assert windlass("enqueue", "shop:app", "double", "-", stdin='{"number": 3}').code == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["dubble", "number=1"], "did you mean 'double'"),
        (["double", "number=x"], "Expected `int`"),
        (["double", "numbr=1"], "numbr"),
        (["double", "number=1", "--delay", "soon"], "not a duration"),
        (["double", "number=1", "--at", "2030-01-01"], "no time zone"),
        (["double", "number=1", "--delay", "5", "--at", "2030-01-01T00:00:00Z"], "not both"),
        (["double", "number=1", "--priority", "99999"], "priority"),
    ],
)
def test_a_wrong_enqueue_is_refused_with_its_reason(shop: Path, windlass: Run, words: list[str], reason: str) -> None:
    """Usage, exit code 2, and nothing stored."""
    answer = windlass("enqueue", "shop:app", *words)
    assert (answer.code, reason in answer.err) == (2, True), answer.err
    assert json.loads(windlass("jobs", "shop:app", "--json").out)["jobs"] == []


def test_status_counts(windlass: Run, store: Windlass, dead: int) -> None:
    """By status, queue and task, with totals; as JSON with stable keys."""
    store.enqueue("send", {}, queue="mail")
    found = json.loads(windlass("status", *URL, "--json").out)
    assert (found["pending"], found["dead"], found["failed"]) == (1, 1, 1)
    assert set(found["queues"]) == {"default", "mail"}
    assert found["totals"]["enqueued"] == 2
    assert {"per_second", "per_minute", "samples", "window"} <= set(found["throughput"])
    plain = windlass("status", *URL).out
    assert "enqueued 2" in plain
    assert "\x1b" not in plain


def test_jobs_are_filtered_and_paged(windlass: Run, store: Windlass) -> None:
    """``next`` of one page is ``--after`` of the following."""
    ids = [store.enqueue("send", {}, queue="mail" if n % 2 else "other").id for n in range(6)]
    first = json.loads(windlass("jobs", *URL, "--queue", "mail", "--limit", "2", "--json").out)
    assert [job["id"] for job in first["jobs"]] == [ids[5], ids[3]]
    second = json.loads(windlass("jobs", *URL, "--queue", "mail", "--after", first["next"], "--json").out)
    assert ([job["id"] for job in second["jobs"]], second["next"]) == ([ids[1]], None)
    several = windlass("jobs", *URL, "--status", "pending", "--status", "dead", "--json")
    assert len(json.loads(several.out)["jobs"]) == 6


def test_a_job_is_shown_with_its_history(windlass: Run, dead: int) -> None:
    """Attempts, their errors, and nothing that a terminal would obey."""
    found = json.loads(windlass("job", *URL, dead, "--json").out)
    assert (found["status"], found["error"]["message"]) == ("dead", "no route\x1b[31m")
    assert [attempt["outcome"] for attempt in found["history"]] == ["failed"]
    plain = windlass("job", *URL, dead).out
    assert "no route" in plain
    assert "\x1b" not in plain


def test_a_job_is_shown_with_its_progress_and_log(windlass: Run, store: Windlass) -> None:
    """As its handler told them."""
    job = store.enqueue("send", {})
    claim = store.claim()
    assert claim is not None
    progress = msgspec.json.encode(Progress(3, 10, "sending"))
    store.driver.note([Note(job.id, claim.lease, progress, ((1e9, "to ada"), (2e9, "to bob\x1b[31m")))])
    found = json.loads(windlass("job", *URL, job.id, "--json").out)
    assert found["progress"] == {"done": 3, "total": 10, "note": "sending"}
    assert [(line["number"], line["text"]) for line in found["lines"]] == [(1, "to ada"), (2, "to bob\x1b[31m")]
    plain = windlass("job", *URL, job.id).out
    assert "3/10 sending" in plain
    assert "  to ada\n" in plain
    assert "\x1b" not in plain


def test_why_says_what_a_job_waits_for(windlass: Run, store: Windlass) -> None:
    """As codes for programs, as sentences for people."""
    job = store.enqueue("send", {})
    store.pause(queue="default")
    found = json.loads(windlass("why", *URL, job.id, "--json").out)
    assert (found["code"], found["status"]) == ("queue-paused", "pending")
    assert "is paused" in windlass("why", *URL, job.id).out


def test_retry_runs_a_dead_job_again(windlass: Run, store: Windlass, dead: int) -> None:
    """By id; what was done is printed."""
    answer = windlass("retry", *URL, dead, "--json")
    assert (answer.code, json.loads(answer.out)) == (0, {"ids": [dead], "refused": {}})
    assert store.get(dead).status == "pending"


def test_what_is_refused_is_told_and_exits_with_1(windlass: Run, store: Windlass, dead: int) -> None:
    """One that is refused does not stop the others."""
    waiting = store.enqueue("send", {}).id
    answer = windlass("retry", *URL, waiting, dead)
    assert answer.code == 1
    assert f"retried job {dead}" in answer.out
    assert f"cannot retry job {waiting}" in answer.err


@pytest.mark.parametrize("words", [["job"], ["why"], ["retry"], ["cancel"], ["delete"], ["watch"]])
def test_a_job_that_is_not_there_exits_with_4(windlass: Run, store: Windlass, words: list[str]) -> None:
    """Programs can tell it from a refusal."""
    store.enqueue("send", {})
    answer = windlass(*words, *URL, 99)
    assert (answer.code, answer.err) == (4, "error: there is no job 99\n")


def test_bulk_changes_need_consent(windlass: Run, store: Windlass, dead: int) -> None:
    """Where nobody can answer, --yes has to be said."""
    answer = windlass("retry", *URL, "--task", "send")
    assert (answer.code, "would retry 1 jobs; add --yes" in answer.err) == (2, True)
    assert windlass("retry", *URL, "--task", "send", "--yes").code == 0
    assert store.get(dead).status == "pending"


def test_a_bulk_change_reaches_every_page(windlass: Run, store: Windlass) -> None:
    """More jobs than fit one page, and only those that match."""
    drafts = [("a", n) for n in range(1100)]
    for _, n in drafts:
        if n % 100 == 0:
            store.enqueue("other", {}, queue="keep")
    from windlass.task import Draft, Options

    store.enqueue_many(Draft(name, host=store, options=Options(), payload=b"{}") for name, _ in drafts)
    answer = windlass("cancel", *URL, "--task", "a", "--yes")
    assert (answer.code, answer.out) == (0, "cancelled 1100 jobs\n")
    assert (store.stats().cancelled, store.stats().pending) == (1100, 11)
    assert windlass("delete", *URL, "--status", "cancelled", "--yes").out == "deleted 1100 jobs\n"


@pytest.mark.parametrize("command", ["retry", "cancel", "delete"])
def test_a_change_needs_ids_or_filters(windlass: Run, store: Windlass, command: str) -> None:
    """Neither and both are usage errors."""
    assert windlass(command, *URL).code == 2
    assert windlass(command, *URL, 1, "--queue", "mail").code == 2


@pytest.mark.parametrize("command", ["cancel", "delete"])
def test_failed_is_too_vague_for_a_change_that_destroys(windlass: Run, store: Windlass, command: str) -> None:
    """Retrying and dead have to be told apart."""
    answer = windlass(command, *URL, "--status", "failed", "--yes")
    assert (answer.code, "ambiguous" in answer.err) == (2, True)


def test_purge_deletes_what_is_old_enough(windlass: Run, store: Windlass, dead: int) -> None:
    """Only the statuses that were named."""
    assert windlass("purge", *URL, "--older-than", "0s").out == "deleted 0 jobs\n"
    assert json.loads(windlass("purge", *URL, "--older-than", "0s", "--status", "dead", "--json").out) == {"deleted": 1}


def test_a_queue_is_paused_and_resumed(windlass: Run, store: Windlass) -> None:
    """Durably, and shown by `queues`."""
    store.enqueue("send", {}, queue="mail")
    assert windlass("pause", *URL, "--queue", "mail").out == "queue mail is paused\n"
    assert [q["paused"] for q in json.loads(windlass("queues", *URL, "--json").out)] == [True]
    assert json.loads(windlass("resume", *URL, "--queue", "mail", "--json").out) == {
        "kind": "queue", "name": "mail", "paused": False,
    }  # fmt: skip
    assert windlass("pause", *URL).code == 2


def test_watch_ends_with_its_job(windlass: Run, store: Windlass, dead: int) -> None:
    """Exit code 1 for a job that died."""
    answer = windlass("watch", *URL, dead)
    assert (answer.code, "is dead" in answer.out) == (1, True)
    job = store.enqueue("send", {})
    claim = store.claim()
    assert claim is not None
    claim.ack()
    answer = windlass("watch", *URL, job.id, "--json")
    assert (answer.code, json.loads(answer.out)["status"]) == (0, "completed")


@pytest.mark.parametrize("as_json", [False, True])
def test_watch_shows_progress_and_log_of_its_job(
    program: Callable[..., Program], store: Windlass, *, as_json: bool
) -> None:
    """Live, from another process; the end ends it."""
    job = store.enqueue("send", {})
    claim = store.claim()
    assert claim is not None
    watch = program("watch", *URL, job.id, "--interval", "100ms", *(["--json"] if as_json else []))
    store.driver.note([Note(job.id, claim.lease, b'{"done":1,"total":4,"note":"warm"}', ((1.0, "the first line"),))])
    watch.says('"note":"warm"' if as_json else "1/4 warm")
    watch.says("the first line")
    store.driver.note([Note(job.id, claim.lease, None, ((2.0, "the last line"),))])
    claim.ack(5)
    assert watch.ends() == 0
    assert watch.text.count("the last line") == 1
    assert "completed" in watch.text.splitlines()[-1]


def test_migrate_check_changes_nothing(windlass: Run, folder: Path) -> None:
    """It exits with 1 while there is something to do."""
    assert windlass("migrate", *URL, "--check").code == 1
    assert windlass("migrate", *URL, "--check").code == 1
    assert windlass("migrate", *URL).code == 0
    answer = windlass("migrate", *URL, "--check", "--json")
    assert (answer.code, json.loads(answer.out)["current"]) == (0, True)


def test_the_doctor_lists_its_findings(windlass: Run, store: Windlass) -> None:
    """A sound store exits with 0."""
    store.enqueue("send", {})
    answer = windlass("doctor", *URL, "--json")
    names = {finding["name"] for finding in json.loads(answer.out)}
    assert (answer.code, "schema version" in names) == (0, True)
    assert "schema version" in windlass("doctor", *URL).out


def test_the_doctor_exits_with_1_on_an_error(windlass: Run, store: Windlass, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a monitor needs to read nothing."""
    from windlass.drivers.base import Finding

    monkeypatch.setattr(Windlass, "diagnose", lambda _: [Finding(name="integrity", value="broken", level="error")])
    assert windlass("doctor", *URL).code == 1


def test_a_store_that_cannot_be_used_exits_with_3(windlass: Run, folder: Path) -> None:
    """A file that is no database, for instance."""
    (folder / "jobs.db").write_bytes(b"this is no database " * 1000)
    answer = windlass("status", *URL)
    assert (answer.code, answer.err.count("\n")) == (3, 1), answer.err


@pytest.mark.parametrize("command", ["copy"])
def test_what_is_not_built_yet_says_so(windlass: Run, command: str) -> None:
    """Whatever else was typed."""
    answer = windlass(command, "--some", "words")
    assert (answer.code, answer.err) == (2, f"error: `windlass {command}` is not built yet\n")


@pytest.mark.parametrize("words", [["nope"], ["job"], ["job", "x"], ["jobs", "--nope"], ["status", "a:b", "c"], []])
def test_wrong_usage_exits_with_2_and_no_traceback(windlass: Run, words: list[str]) -> None:
    """One line that says what is wrong, one that says where help is."""
    answer = windlass(*words)
    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert not words or answer.err.startswith("error: ")


def _commands() -> Iterator[str]:
    from windlass.cli.root import cli

    for info in cli.registered_commands:
        assert info.name is not None
        yield info.name


@pytest.mark.parametrize("command", list(_commands()))
def test_every_command_explains_itself(windlass: Run, command: str) -> None:
    """With a sentence, and help for every option."""
    answer = windlass(command, "--help")
    assert answer.code == 0
    assert "Usage" in answer.out


def test_the_version_is_told(windlass: Run) -> None:
    """For bug reports."""
    from windlass import __version__

    assert windlass("--version").out == f"windlass {__version__}\n"


@pytest.mark.parametrize("store", ["sqlite", "memory"])
def test_bench_measures_a_store_of_its_own(windlass: Run, folder: Path, store: str) -> None:
    """It prints rates and leaves nothing behind."""
    answer = windlass("bench", "--jobs", "50", "--store", store, "--folder", folder, "--json")
    rows = json.loads(answer.out)["results"]
    assert [row["jobs"] for row in rows] == [5, 45, 50]
    assert all(row["per_second"] > 0 for row in rows)
    assert list(folder.iterdir()) == []


def test_enqueue_says_when_the_job_was_there(shop: Path, windlass: Run) -> None:
    """By its payload or its idempotency key."""
    first = json.loads(windlass("enqueue", "shop:app", "double", "number=4", "--unique", "--json").out)
    again = json.loads(windlass("enqueue", "shop:app", "double", "number=4", "--unique", "--json").out)
    assert (first["created"], again["created"], again["id"]) == (True, False, first["id"])
    windlass("enqueue", "shop:app", "double", "number=5", "--key", "order-1")
    assert "was there already" in windlass("enqueue", "shop:app", "double", "number=6", "--key", "order-1").out


def test_batches_are_listed_shown_cancelled_and_deleted(windlass: Run, store: Windlass) -> None:
    """With the counts of their members."""
    with store.batch("album") as batch:
        store.enqueue_members(batch.id, [])
    batch = store.batch("open")
    store.enqueue("send", {"to": "ada"})
    listed = json.loads(windlass("batches", *URL, "--json").out)
    assert [(row["name"], row["open"], row["total"]) for row in listed] == [("open", True, 0), ("album", False, 0)]
    assert "finished" in windlass("batches", *URL).out
    assert "complete, success" in windlass("batches", *URL, "1").out
    assert windlass("batches", *URL, str(batch.id), "--cancel").out == "0 jobs cancelled\n"
    assert windlass("batches", *URL, str(batch.id), "--delete").code == 0
    assert windlass("batches", *URL, str(batch.id)).code == 4
    assert windlass("batches", *URL, "--cancel").code == 2


def test_schedules_are_listed_shown_paused_triggered_and_removed(windlass: Run, store: Windlass) -> None:
    """With their ticks, past and to come."""
    store.schedules.add("sales", "0 2 * * 1-5", task="report", timezone="Europe/Berlin", payload={"region": "eu"})
    store.schedules.add("often", every=300, task="report", queue=["a", "b"])
    listed = json.loads(windlass("schedules", *URL, "--json").out)
    assert [(row["name"], row["words"], row["queues"]) for row in listed] == [
        ("often", "every 5 minutes", ["a", "b"]),
        ("sales", "every weekday at 02:00, Europe/Berlin", ["default"]),
    ]
    assert "every weekday at 02:00, Europe/Berlin" in windlass("schedules", *URL).out
    assert windlass("schedules", *URL, "sales", "--trigger").out == "schedule sales is triggered: job 1\n"
    refused = windlass("schedules", *URL, "sales", "--trigger")
    assert (refused.code, "its job 1 has not ended" in refused.err) == (1, True)
    assert json.loads(windlass("schedules", *URL, "sales", "--trigger", "--force", "--json").out)["jobs"] == [2]
    shown = json.loads(windlass("schedules", *URL, "sales", "--json", "--next", "2").out)
    assert len(shown["next"]) == 2
    assert [(row["outcome"], row["job_id"]) for row in shown["history"]] == [("triggered", 2), ("triggered", 1)]
    assert windlass("schedules", *URL, "sales", "--pause").code == 0
    told = windlass("schedules", *URL, "sales").out
    assert "paused" in told
    assert "triggered, job 1, " in told
    assert "region: eu" in told
    assert windlass("schedules", *URL, "sales", "--resume").code == 0
    assert windlass("schedules", *URL, "sales", "--remove").out == "schedule sales is removed\n"
    assert windlass("schedules", *URL, "sales").code == 4
    assert windlass("schedules", *URL, "--pause").code == 2
    assert windlass("schedules", *URL, "often", "--pause", "--remove").code == 2


def test_looking_at_schedules_declares_none(windlass: Run, shop: Path) -> None:
    """The code at hand may be older than the fleet's."""
    (shop / "shop.py").write_text(
        (shop / "shop.py").read_text() + "\napp.schedule('@daily', payload={'word': 'x'})(speak)\n"
    )
    assert json.loads(windlass("schedules", "shop:app", "--json").out) == []


def test_a_limit_is_set_listed_and_dropped(windlass: Run, store: Windlass) -> None:
    """Of a queue, a task or a key; a rate too."""
    windlass("limits", *URL, "--queue", "mail", "--most", "3")
    windlass("limits", *URL, "--key", "tenant:5", "--most", "10", "--per", "1m", "--burst", "2")
    listed = json.loads(windlass("limits", *URL, "--json").out)
    assert [(row["key"], row["kind"], row["most"], row["pinned"]) for row in listed] == [
        ("queue:mail", "limit", 3, True),
        ("tenant:5", "rate", 10, True),
    ]
    assert "by hand" in windlass("limits", *URL).out
    windlass("limits", *URL, "--queue", "mail", "--drop")
    assert store.limits(["queue:mail"]) == []


@pytest.mark.parametrize(
    "words",
    [["--most", "3"], ["--queue", "a", "--task", "b", "--most", "3"], ["--queue", "a", "--most", "0"],
     ["--queue", "a", "--most", "1.5"], ["--queue", "a", "--most", "3", "--burst", "2"], ["--queue", "a", "--most", "3", "--drop"]],
)  # fmt: skip
def test_a_limit_that_cannot_be_right_is_refused(windlass: Run, store: Windlass, words: list[str]) -> None:
    """With its reason, and nothing is set."""
    assert windlass("limits", *URL, *words).code == 2
    assert store.limits() == []


def test_failures_are_listed_in_groups_and_retried_as_such(dead: int, windlass: Run) -> None:
    """By their fingerprint."""
    [group] = json.loads(windlass("failures", *URL, "--json").out)
    assert (group["type"], group["dead"], group["newest"]["id"]) == ("ValueError", 1, dead)
    shown = windlass("failures", *URL).out
    assert group["fingerprint"] in shown
    assert "ValueError: no route" in shown
    assert "\x1b" not in shown
    listed = json.loads(windlass("jobs", *URL, "--error", group["fingerprint"], "--json").out)
    assert [job["id"] for job in listed["jobs"]] == [dead]
    done = json.loads(windlass("retry", *URL, "--error", group["fingerprint"], "--yes", "--json").out)
    assert done["ids"] == [dead]
    assert json.loads(windlass("failures", *URL, "--json").out) == []


def test_the_audit_is_listed(store: Windlass, windlass: Run) -> None:
    """Who did what to how many."""
    store.record_action("ada", "retry", "3 jobs", done=2, refused=1)
    [row] = json.loads(windlass("audit", *URL, "--json").out)
    assert (row["actor"], row["action"], row["target"], row["done"], row["refused"]) == ("ada", "retry", "3 jobs", 2, 1)
    assert "3 jobs" in windlass("audit", *URL).out
    assert json.loads(windlass("audit", *URL, "--before", "1", "--json").out) == []


def test_a_worker_is_told_what_to_do(store: Windlass, windlass: Run) -> None:
    """One that is not there is an error."""
    store.driver.beat(Card(id="w1", host="h", pid=1))
    for option in ("--quiet", "--resume", "--stop"):
        assert "w1" in windlass("workers", *URL, option, "w1").out
    turned = store.driver.exchange(Turn(worker="w1"))
    assert sorted(signal.lease for signal in turned.signals) == [1, 2, 3]
    refused = windlass("workers", *URL, "--quiet", "w2")
    assert (refused.code, "no worker 'w2'" in refused.err) == (1, True)
