"""Options that several commands share."""

from datetime import datetime
from typing import Annotated, Any

import typer

from windlass.cli.values import duration, instant

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Ids = Annotated[list[int] | None, typer.Argument(metavar="ID", help="The jobs.", show_default=False)]
Id = Annotated[int, typer.Argument(metavar="ID", help="The job.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where nobody can answer.")]

AppName = Annotated[
    str | None,
    typer.Option(
        "--app",
        "-A",
        metavar="MODULE:APP",
        help="The application; also as the first word. Default: WINDLASS_APP, else `app` in \\[tool.windlass].",
        rich_help_panel="Where",
        show_default=False,
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="The store, when your code is not needed, for instance sqlite:///jobs.db. Default: WINDLASS_URL.",
        rich_help_panel="Where",
        show_default=False,
    ),
]
PLACE: dict[str, Any] = {"app": AppName, "url": Url}
"""Says which application."""


def _filter(kind: Any, flag: str, help_text: str, **settings: Any) -> Any:
    return Annotated[kind, typer.Option(flag, help=help_text, rich_help_panel="Which", show_default=False, **settings)]


_STATUSES = "scheduled, pending, running, retrying, completed, dead, cancelled; failed = retrying and dead. Repeatable."
FILTERS: dict[str, Any] = {
    "status": _filter(list[str] | None, "--status", _STATUSES, metavar="STATUS"),
    "queue": _filter(str | None, "--queue", "Only of this queue.", metavar="NAME"),
    "task": _filter(str | None, "--task", "Only of this task.", metavar="NAME"),
    "tag": _filter(str | None, "--tag", "Only with this tag.", metavar="TAG"),
    "origin": _filter(str | None, "--origin", "Only from this origin.", metavar="TEXT"),
    "worker": _filter(str | None, "--worker", "Only those that this worker runs or ran last.", metavar="ID"),
    "error": _filter(str | None, "--error", "Only with this type of last error, or its fingerprint.", metavar="TYPE"),
    "created_after": _filter(
        datetime | None, "--created-after", "An ISO 8601 instant with its zone.", metavar="INSTANT", parser=instant
    ),
    "created_before": _filter(
        datetime | None, "--created-before", "An ISO 8601 instant with its zone.", metavar="INSTANT", parser=instant
    ),
    "started_before": _filter(
        datetime | None, "--started-before", "An ISO 8601 instant with its zone.", metavar="INSTANT", parser=instant
    ),
}
"""Says which jobs; spelt as in ``Client.jobs``."""


def length(*flags: str, help_text: str) -> Any:
    """Return the type of an optional duration."""
    help_text += " 90, 90s, 5m, 2h, 1d."
    return Annotated[
        float | None, typer.Option(*flags, metavar="DURATION", parser=duration, help=help_text, show_default=False)
    ]
