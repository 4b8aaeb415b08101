"""Commands that are spelt already, and say that they are not built yet."""

from typing import Annotated

import typer

from windlass.cli.command import command
from windlass.errors import NotYetError

_ANYTHING = {"ignore_unknown_options": True, "allow_extra_args": True}
_NAMES = {
    "copy": "Copy a store to another",
}


def add(cli: typer.Typer) -> None:
    """Add them."""
    for name, text in _NAMES.items():
        _add(cli, name, text)


def _add(cli: typer.Typer, name: str, text: str) -> None:
    @command(cli, name, panel="Not built yet", context_settings=_ANYTHING, help=f"{text} (not built yet).")
    def not_yet(*, _words: Annotated[list[str] | None, typer.Argument(hidden=True)] = None) -> None:
        raise NotYetError(f"`windlass {name}` is not built yet")
