"""``manage.py windlass_worker``: run jobs in this project."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from windlass.contrib.django.configured import application


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types
    """Run jobs until SIGTERM or Ctrl-C."""

    help = "Run jobs until SIGTERM or Ctrl-C; the first stops gracefully, a second one at once."

    def add_arguments(self, parser: Any) -> None:
        """Take what ``app.run`` takes."""
        parser.add_argument("--concurrency", "-c", type=int, help="Jobs at once.")
        parser.add_argument("--queue", "-q", action="append", help="Take from this queue only. Repeatable.")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Work."""
        application().run(concurrency=options["concurrency"], queues=options["queue"])
