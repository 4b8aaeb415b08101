"""What is told to other processes survives the way, and mixed releases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from windlass import BatchFinished, Job, JobCompleted, JobDead, JobFailed, QueuePaused, WorkerLost, bulletin, events
from windlass.job import Failure, Record, Status

if TYPE_CHECKING:
    from windlass.events import Event

RECORD = Record(
    7, "send", "mail", Status.COMPLETED, 3, b'{"to":"ada"}', 2, 1, 0, 5, 30.0, 10.0, 9.0, 11.0, 12.5,
    result=b'"ok"', tags='["a","b"]', origin="shop", meta=b'{"k":1}', batch_id=4, tick=8.0, idempotency_key="i", worker="w",
)  # fmt: skip


def back(*told: Event) -> list[Event]:
    return [event for message in bulletin.encode(told) for event in bulletin.decode(message, Job)]


@pytest.mark.parametrize(
    "event",
    [
        JobCompleted(job=Job(RECORD), duration=1.5),
        JobFailed(job=Job(RECORD), error=Failure(type="E", message="m", traceback="t", data=[1]), will_retry=True),
        BatchFinished(batch_id=3, name="images", completed=2, dead=1),
        QueuePaused(kind="task", name="send"),
        WorkerLost(worker="w"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_event_is_the_same_elsewhere(event: Event) -> None:
    assert back(event) == [event]


def test_every_kind_can_be_told() -> None:
    """A field that is forgotten here would be missing there."""
    for kind in bulletin.KINDS.values():
        missing = set(kind.__struct_fields__) - set(bulletin._Bulletin.__struct_fields__) - {"exception"}
        assert not missing, kind


def test_an_exception_stays_at_home() -> None:
    event = JobDead(job=Job(RECORD), error=Failure(type="E", message="m"), exception=ValueError("m"))
    [told] = back(event)
    assert isinstance(told, JobDead)
    assert told.exception is None


def test_many_events_are_several_messages_none_of_them_long() -> None:
    told = [JobCompleted(job=Job(msgspec.structs.replace(RECORD, id=n)), duration=0.0) for n in range(100)]
    messages = bulletin.encode(told)
    assert 1 < len(messages) < 100
    assert max(map(len, messages)) < bulletin.FULL + 200
    assert back(*told) == told


def test_long_fields_are_cut_and_named() -> None:
    long = msgspec.json.encode("x" * 3000)
    error = msgspec.json.encode(Failure(type="E", message="m" * 600, traceback="t" * 3000))
    record = msgspec.structs.replace(RECORD, payload=long, result=long, error=error, tags='["' + "t" * 3000 + '"]')
    [told] = back(
        JobFailed(job=Job(record), error=Failure(type="E", message="m", traceback="t" * 3000), will_retry=True)
    )
    assert isinstance(told, JobFailed)
    assert told.cut == ("payload", "result", "error", "tags")
    assert (told.job.payload, told.job.result, told.job.tags) == (None, None, ())
    assert told.job.error is not None
    assert (len(told.job.error.message), told.job.error.traceback) == (501, "")
    assert (told.error.message, told.error.traceback) == ("m", "")


@pytest.mark.parametrize(
    "message",
    [b"", b"nonsense", b"{}", b"[5]", b"\xff\xfe", b"[]", b'[{"event":"JobMoved"}]', b'[{"event":"JobDead"}]'],
)
def test_what_is_not_understood_is_skipped(message: bytes) -> None:
    """Another release's kinds, a kind without its job, and what is no message of ours."""
    assert list(bulletin.decode(message, Job)) == []


def test_fields_of_a_newer_release_are_skipped() -> None:
    [message] = bulletin.encode([WorkerLost(worker="w")])
    newer = message.replace(b'"worker"', b'"why":["x"],"worker"')
    assert list(bulletin.decode(newer, Job)) == [WorkerLost(worker="w")]


def test_kinds_of_the_applications_own_are_not_told() -> None:
    class Mine(events.Event, frozen=True, kw_only=True):
        """An event of somebody's own."""

    assert bulletin.encode([Mine()]) == []
