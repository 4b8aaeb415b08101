"""Gunicorn reads this by itself: with WORKER=inside each of its processes runs jobs, too.

A job that runs at SIGTERM has the application's ``grace``, 25 seconds, to end; gunicorn kills after ``graceful_timeout``.
"""

import os
from typing import Any

graceful_timeout = 40


def post_worker_init(worker: Any) -> None:
    """Start to work, in the process that answers requests: never before the fork."""
    if os.environ.get("WORKER") == "inside":
        worker.wsgi.extensions["windlass"].app.start()
        worker.log.info("jobs are run here, too")


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001
    """Finish what runs."""
    if getattr(worker, "wsgi", None) is not None:  # it could be loaded
        worker.wsgi.extensions["windlass"].app.close()
