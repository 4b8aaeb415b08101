"""Flask: handlers run in the application context, ``flask windlass …`` has the command line.

::

    from flask import Flask
    from windlass.contrib.flask import WindlassFlask

    web = Flask(__name__)
    WindlassFlask(app, web)
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask

    from windlass.app import Windlass
    from windlass.context import Context


class WindlassFlask:
    """Ties a Windlass application to a Flask one.

    Args:
        app: the Windlass application.
        web: the Flask one; or call :meth:`init_app` later, from an application factory.
    """

    def __init__(self, app: Windlass, web: Flask | None = None) -> None:
        self.app = app
        self._web: Flask | None = None
        app.around_attempt(self._in_context)
        if web is not None:
            self.init_app(web)

    def init_app(self, web: Flask) -> None:
        """Run handlers in this application's context, and add the commands; it is ``web.extensions["windlass"]``."""
        self._web = web
        web.extensions["windlass"] = self
        web.cli.add_command(_commands(self.app))

    @contextmanager
    def _in_context(self, _context: Context) -> Iterator[None]:
        if self._web is None:
            yield
            return
        with self._web.app_context():
            yield


def _commands(app: Windlass) -> Any:
    """Return ``flask windlass``: the command line, over this very application."""
    import click

    @click.command(
        "windlass",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        help="Run, look at and manage background jobs.",
    )
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    def windlass(words: tuple[str, ...]) -> None:
        if words[:1] == ("worker",):
            _work(app, words[1:])
            return
        from windlass.cli.root import cli

        cli(["--help"] if not words else [words[0], *_named(app), *words[1:]], prog_name="flask windlass")

    return windlass


def _named(app: Windlass) -> list[str]:
    return ["--url", app.settings.url]


def _work(app: Windlass, words: tuple[str, ...]) -> None:
    """Work in this process, where the Flask application is."""
    import click

    @click.command("worker")
    @click.option("--concurrency", "-c", type=click.IntRange(min=1), help="Jobs at once.")
    @click.option("--queue", "-q", "queues", multiple=True, help="Take from this queue only. Repeatable.")
    def worker(concurrency: int | None, queues: tuple[str, ...]) -> None:
        """Run jobs until SIGTERM or Ctrl-C."""
        app.run(concurrency=concurrency, queues=list(queues) or None)

    worker.main(list(words), prog_name="flask windlass worker", standalone_mode=False)
    sys.exit(0)
