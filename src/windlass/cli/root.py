"""The program: every group of commands in the order in which ``--help`` shows them."""

from typing import Annotated

import typer

from windlass import __version__
from windlass.cli import (
    batches,
    bench,
    change,
    dashboard,
    enqueue,
    flow,
    jobs,
    later,
    limits,
    schedules,
    status,
    store,
    watch,
    work,
)
from windlass.cli.command import Commands

HELP = r"""Run, look at and manage durable background jobs.

Name the application as `--app module:attribute`, as the first word after the command, by WINDLASS_APP, or as `app` in
\[tool.windlass] of pyproject.toml. Commands that need none of your code also take `--url sqlite:///jobs.db`.

Exit codes: 0 done; 1 the thing asked about failed or was refused; 2 wrong usage; 3 the store cannot be reached or used;
4 no such job.
"""

cli = typer.Typer(
    cls=Commands,
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    if wanted:
        typer.echo(f"windlass {__version__}")
        raise typer.Exit


@cli.callback()
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that stand before the command."""


for group in (
    work,
    enqueue,
    status,
    jobs,
    batches,
    watch,
    change,
    flow,
    limits,
    schedules,
    store,
    dashboard,
    bench,
    later,
):
    group.add(cli)


def program() -> None:
    """Run the command line and exit."""
    cli(prog_name="windlass")
