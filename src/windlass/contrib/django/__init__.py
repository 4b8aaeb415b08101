"""Django: settings, management commands, jobs in your transaction, and a backend for ``django.tasks``.

In ``settings.py``::

    INSTALLED_APPS = [..., "windlass.contrib.django"]
    WINDLASS = {"DATABASE": "default"}

and in ``tasks.py`` of any of your applications::

    from windlass.contrib.django import app

    @app.task
    def send_email(to: str) -> None: ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from windlass.app import Windlass

    app: Windlass


def __getattr__(name: str) -> Any:
    """Make the application at first use: settings must be there."""
    if name == "app":
        from windlass.contrib.django.configured import application

        return application()
    raise AttributeError(name)
