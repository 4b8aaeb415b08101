"""The Django application: checks, and the tasks of all others."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core.checks import Error, register
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules


class WindlassConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    """Finds ``tasks.py`` in every installed application."""

    name = "windlass.contrib.django"
    label = "windlass"
    verbose_name = "Windlass"

    def ready(self) -> None:
        """Register the checks and import the tasks."""
        register(check_settings)
        post_migrate.connect(_create_tables, sender=self)
        if not check_settings():
            autodiscover_modules("tasks")


def _create_tables(using: str, **_: Any) -> None:
    """Make the tables with the project's own: later an open transaction might be in the way."""
    from windlass.contrib.django.configured import application

    app = application()
    if app.database == using:
        app.driver  # noqa: B018 - opening makes them, or checks them


def check_settings(**_: Any) -> list[Error]:
    """Say what is wrong with ``settings.WINDLASS``."""
    from django.conf import settings

    from windlass.contrib.django.configured import application, wrong
    from windlass.errors import ConfigurationError

    given = getattr(settings, "WINDLASS", None) or {}
    if not isinstance(given, dict):
        return [Error("settings.WINDLASS must be a dict", id="windlass.E001")]
    if problem := wrong(given):
        return [Error(problem, id="windlass.E002")]
    try:
        application()
    except (ConfigurationError, TypeError) as error:
        return [Error(f"settings.WINDLASS: {error}", id="windlass.E003")]
    return []
