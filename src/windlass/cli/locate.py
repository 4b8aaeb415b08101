"""Finding the application that a command is about.

``--app`` (or a bare ``module:attribute``) before ``--url`` before ``WINDLASS_APP`` before ``app`` in ``[tool.windlass]``
before the store that the settings name.
"""

from __future__ import annotations

import os
import sys
import tomllib
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass.app import Windlass
from windlass.errors import ConfigurationError, WindlassError
from windlass.settings import DEFAULT_URL

if TYPE_CHECKING:
    from types import ModuleType

NAME = "give it as module:attribute, for instance `shop:app`"


class AppImportError(ConfigurationError):
    """The application's module cannot be imported."""

    def __init__(self, message: str, *, files: tuple[str, ...] = ()) -> None:
        self.files = files
        """The project's files that took part, so that ``--watch`` knows what to look at."""
        super().__init__(message)


def find(app: str | None, url: str | None, *, tasks_needed: bool = False) -> Windlass:
    """Return the application that was named, in whichever way.

    Raises:
        ConfigurationError: none was, or it cannot be loaded.
    """
    if app is not None and url is not None:
        raise ConfigurationError("give the app or --url, not both")
    if url is not None and not tasks_needed:
        return Windlass(url)
    name = named(app)
    if name is not None:
        return load(name)
    if tasks_needed:
        raise ConfigurationError(f"no app; {NAME}, set WINDLASS_APP, or `app` in [tool.windlass] of pyproject.toml")
    bare = Windlass()
    if bare.settings.url == DEFAULT_URL and not Path("windlass.db").exists():
        # Looking must not leave an empty database in whatever folder it was done in.
        raise ConfigurationError(f"no app and no store; {NAME}, or give --url, or set WINDLASS_APP or WINDLASS_URL")
    return bare


def named(app: str | None) -> str | None:
    """Return the application's name: as given, else from the environment, else from the project."""
    return app or os.environ.get("WINDLASS_APP") or configured()


def configured() -> str | None:
    """Return ``app`` of ``[tool.windlass]`` in the current folder's ``pyproject.toml``."""
    try:
        found = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return None  # the settings complain about a broken file
    name = found.get("tool", {}).get("windlass", {}).get("app")
    if name is not None and not isinstance(name, str):
        raise ConfigurationError(f"app in [tool.windlass] must be text such as 'shop:app', not {name!r}")
    return name


def load(name: str) -> Windlass:
    """Import ``module:attribute``; without an attribute take the module's only application."""
    module_name, _, attribute = name.partition(":")
    if "" in module_name.split("."):
        raise ConfigurationError(f"{name!r} names no app; {NAME}")
    if os.getcwd() not in sys.path:  # noqa: PTH109 - compared with text
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    module = _import(module_name)
    return _attribute(module, attribute) if attribute else _only(module)


def _import(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise AppImportError(f"there is no module {name!r} here") from None
        raise _broken(name, error) from error
    except WindlassError as error:
        raise _broken(name, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


def _broken(name: str, error: BaseException) -> AppImportError:
    frames = traceback.extract_tb(error.__traceback__)
    files = [frame.filename for frame in frames if not frame.filename.startswith("<frozen")]
    place = f"{files[-1]}, line {frames[-1].lineno}" if files else "?"
    if isinstance(error, SyntaxError) and error.filename:
        files.append(error.filename)
        place = f"{error.filename}, line {error.lineno}"
        text = f"SyntaxError: {error.msg}"
    else:
        text = f"{type(error).__name__}: {error}"
    return AppImportError(f"importing {name!r} failed: {text} ({place})", files=tuple(files))


def _attribute(module: ModuleType, path: str) -> Windlass:
    value: Any = module
    for part in path.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            others = ", ".join(f"{module.__name__}:{name}" for name in _apps(module))
            hint = f"; there is {others}" if others else ""
            raise AppImportError(f"{module.__name__!r} has no {path!r}{hint}") from None
    if not isinstance(value, Windlass):
        raise ConfigurationError(f"{module.__name__}:{path} is not a Windlass app but {type(value).__qualname__}")
    return value


def _only(module: ModuleType) -> Windlass:
    found = _apps(module)
    if not found:
        raise ConfigurationError(f"there is no Windlass app in {module.__name__!r}")
    if len({id(app) for app in found.values()}) > 1:
        listed = ", ".join(f"{module.__name__}:{name}" for name in found)
        raise ConfigurationError(f"{module.__name__!r} has several apps; say which: {listed}")
    return next(iter(found.values()))


def _apps(module: ModuleType) -> dict[str, Windlass]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Windlass)}
