"""The command line: one module per group of commands, put together in :mod:`windlass.cli.root`.

Importing this package loads nothing: typer is for those who type a command.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command in ``sys.argv`` and exit with its code."""
    if "WINDLASS_WORKER_PLAN" in os.environ:
        from windlass.cli import process

        sys.exit(process.main())
    from windlass.cli.root import program

    program()
