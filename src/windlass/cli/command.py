"""What all commands share: how they are declared, how they name their application, how they fail.

A command function that has a parameter ``app`` gets the application opened, and its command ``--app`` and ``--url``;
one with ``filters`` gets the options of ``Client.jobs`` as a mapping of those that were given.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from windlass.cli import failure, locate
from windlass.cli.options import FILTERS, PLACE
from windlass.errors import WindlassError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_UsageError: Any = typer.BadParameter.__mro__[1]
"""Click's, wherever this release of typer keeps its copy of click."""
_APP = re.compile(r"[^\W\d][\w.]*:([^\W\d][\w.]*)?")
_MODULE = re.compile(r"[^\W\d][\w.]*")


class Command(TyperCommand):
    """A command that takes its application as its first word, too: ``windlass status shop:app``."""

    def _own_words(self) -> bool:
        return any(parameter.param_type_name == "argument" for parameter in self.params)

    def _takes_ids(self) -> bool:
        return any(parameter.name in ("ids", "job_id") for parameter in self.params)

    def _has_app(self) -> bool:
        return any(parameter.name == "app" for parameter in self.params)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Show the optional first word."""
        pieces = super().collect_usage_pieces(ctx)
        return [pieces[0], "[MODULE:APP]", *pieces[1:]] if self._has_app() else pieces

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the application out of the words; where a command has no words of its own, from anywhere."""
        if not self._has_app():
            return super().parse_args(ctx, args)
        if args and (_APP.fullmatch(args[0]) or (self._takes_ids() and _MODULE.fullmatch(args[0]))):
            args = ["--app", *args]
        ctx.allow_extra_args = not self._own_words()
        rest: list[str] = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing and not self._own_words():
            if len(rest) > 1 or ctx.params.get("app") is not None:
                raise _UsageError(f"unexpected argument {rest[-1]!r}", ctx=ctx)
            ctx.params["app"], ctx.args = rest[0], []
            return []
        return rest


class Commands(TyperGroup):
    """All commands. What goes wrong is told in one line."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except WindlassError as error:
            failure.say(error)
            raise typer.Exit(failure.code_of(error)) from error

    def main(self, *args: Any, **more: Any) -> Any:
        """Run the command line and exit."""
        if not more.pop("standalone_mode", True):
            return super().main(*args, **{**more, "standalone_mode": False})
        try:
            code = super().main(*args, **{**more, "standalone_mode": False})
            sys.stdout.flush()
        except _UsageError as error:
            message = error.format_message()
            if message:  # else there was no command at all, and the help stands there already
                failure.say(f"{message[:1].lower()}{message[1:].rstrip('.')}")
                self._hint(error)
            code = failure.Code.USAGE
        except (typer.Abort, KeyboardInterrupt):
            code = 130
        except BrokenPipeError:
            # The reader has seen enough, as in `windlass jobs | head`.
            sys.stdout = sys.stderr
            code = failure.Code.OK
        sys.exit(code if isinstance(code, int) else 0)

    def _hint(self, error: Any) -> None:
        if error.ctx is not None:
            sys.stderr.write(f"try `{error.ctx.command_path} --help`\n")


def command(
    to: typer.Typer, name: str, *, panel: str, opened: bool = True, **settings: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the decorated function to *to* as a command; not *opened*, its ``app`` is only the name."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(function).parameters
        opening = opened and "app" in own
        added = {**(PLACE if opening else {}), **(FILTERS if "filters" in own else {})}

        @functools.wraps(function)
        def run(**given: Any) -> None:
            if "filters" in own:
                taken = {key: given.pop(key) for key in FILTERS}
                given["filters"] = {key: value for key, value in taken.items() if value not in (None, [])}
            if not opening:
                function(**given)
                return
            with locate.find(given.pop("app"), given.pop("url")) as app:
                function(app=app, **given)

        replaced = ("app", "filters") if opening else ("filters",)
        kept = [p.replace(kind=p.KEYWORD_ONLY) for p in own.values() if p.name not in replaced]
        parameters = [*kept, *_keywords(added)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        to.command(name, cls=Command, rich_help_panel=panel, **settings)(run)
        return function

    return decorate


def _keywords(annotations: dict[str, Any]) -> Sequence[inspect.Parameter]:
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in annotations.items()
    ]
