"""``manage.py windlass …``: the command line, over the project's store."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from windlass.contrib.django.configured import application


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types
    """Look at and manage jobs."""

    help = "Look at and manage jobs: manage.py windlass jobs --status dead"

    def run_from_argv(self, argv: list[str]) -> None:
        """Hand everything after the command's name over."""
        from windlass.cli.root import cli

        words = argv[2:]
        if words[:1] == ["worker"]:
            sys.exit("use manage.py windlass_worker")
        named = [words[0], "--url", application().settings.url, *words[1:]] if words else ["--help"]
        cli(named, prog_name="manage.py windlass")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do nothing: see ``run_from_argv``."""
