import io
import logging
import sys

import pytest

from windlass.cli import logs, output
from windlass.cli.status_line import StatusLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _record(**more: object) -> logging.LogRecord:
    record = logging.LogRecord("shop", logging.WARNING, "shop.py", 1, "the word is %s", ("hi\x1b[31m",), None)
    record.__dict__.update(more)
    return record


def test_a_log_line_carries_the_job() -> None:
    """When the record was made inside of one; it need not have been."""
    lines = logs.Lines("2")
    assert "WARNING [2] [job 7] the word is hi" in lines.format(_record(job_id=7, task="speak"))
    assert "[job" not in lines.format(_record(job_id=None))
    assert "[job" not in lines.format(_record())


def test_a_log_line_cannot_command_the_terminal() -> None:
    """What handlers log may hold anything."""
    assert "\x1b" not in logs.Lines("").format(_record())


def test_json_logs_are_objects() -> None:
    """One per line, with the job's id and task."""
    import json

    made = json.loads(logs.Objects("1").format(_record(job_id=7, task="speak")))
    assert (made["job_id"], made["task"], made["level"], made["worker"]) == (7, "speak", "warning", "1")


def test_logging_that_was_set_up_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that has configured logging keeps its own."""
    before = list(logging.getLogger().handlers)
    assert before, "pytest has its own handlers there"
    logs.setup("debug")
    assert logging.getLogger().handlers == before


def test_the_status_line_shows_all_workers_as_one() -> None:
    """Running, slots, processed, rate and failures are added up."""
    now = [0.0]
    line = StatusLine(Terminal(), clock=lambda: now[0])
    worker = {"state": "running", "running": 1, "concurrency": 4, "processed": 0, "failed": 1}
    line.text([worker, worker])
    now[0] = 2.0
    text = line.text([{**worker, "processed": 30}, {**worker, "processed": 10}])
    assert "2/8 running · 40 processed · 20.0/s · 2 failed" in text


def test_the_status_line_survives_a_replaced_process() -> None:
    """What a recycled process had done still counts."""
    line = StatusLine(Terminal())
    line.text([{"processed": 30}])
    assert "35 processed" in line.text([{"processed": 5}])


def test_the_status_line_is_for_terminals() -> None:
    """A file gets the log alone."""
    file, screen = io.StringIO(), Terminal()
    for stream in (file, screen):
        StatusLine(stream).draw([{"state": "running"}])
    assert file.getvalue() == ""
    assert screen.getvalue().startswith("\r\x1b[Krunning")


def test_a_pipe_gets_aligned_text(capsys: pytest.CaptureFixture[str]) -> None:
    """No colours, no boxes."""
    output.table(("name", ">number"), [("a", 1), ("long", 1000)])
    assert capsys.readouterr().out.splitlines() == ["NAME  NUMBER", "a          1", "long    1000"]


def test_a_terminal_gets_a_table_without_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are data: brackets in them are no colours."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    output.table(("name",), [("[red]x[/red]",)])
    assert "[red]x[/red]" in screen.getvalue()


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR turns colours off on a terminal."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    output.table(("status",), [("dead",)])
    assert "\x1b[31m" not in screen.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.25, "250 ms"), (1.5, "1.5 s"), (60, "60 s"), (300, "5 m"), (7200, "2 h"), (2e5, "2 d")],
)
def test_a_span_is_shown_in_a_sensible_unit(seconds: float | None, text: str) -> None:
    """Short enough for a cell."""
    assert output.span(seconds) == text
