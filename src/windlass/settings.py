"""What can be set, where from, and the checks.

A setting is taken from the constructor, else from ``WINDLASS_<NAME>`` in the environment, else from ``[tool.windlass]``
in the ``pyproject.toml`` of the current folder, else its default.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from windlass import backoff as backoffs
from windlass.errors import ConfigurationError
from windlass.job import Status
from windlass.times import seconds

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = 86400.0
DEFAULT_URL = "sqlite:///windlass.db"
RETENTION: Mapping[Status, float | None] = {Status.COMPLETED: DAY, Status.CANCELLED: DAY, Status.DEAD: 90 * DAY}
PAYLOAD_LIMIT = 1 << 20
MOST = (1 << 31) - 1
"""What stores have room for in counts, of attempts for instance."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The checked settings of an application. Durations in seconds."""

    url: str
    max_attempts: int = 3
    """Total tries of a job before it is dead."""
    max_crashes: int = 3
    """Attempts a job may lose with their worker before it is dead."""
    backoff: backoffs.Backoff = backoffs.DEFAULT
    timeout: float | None = None
    """Of one attempt; ``None`` or 0 = none."""
    queue: str = "default"
    retention: Mapping[Status, float | None] = msgspec.field(default_factory=lambda: RETENTION)
    """How long finished jobs are kept: 0 = not at all, ``None`` = for ever."""
    prefix: str = "windlass"
    schema: str | None = None
    """PostgreSQL: the schema of the tables; ``None`` = the first of the connection's ``search_path``."""
    listen_url: str | None = None
    """PostgreSQL: where to listen for notifications when ``url`` leads through a pooler; ``None`` = ``url``."""
    strict: bool = False
    """Redis: refuse a server that may evict jobs, or that keeps nothing on disk."""
    replicas: int = 0
    """Redis: how many replicas must confirm an enqueue before it returns."""
    idle: str = "normal"
    """``"quiet"``: an idle worker waits to be told and does not look by itself, for databases that may sleep."""
    durability: str = "full"
    migrate: str = "auto"
    poll: float = 0.2
    """How often an idle worker looks by itself, should nobody ring."""
    beat: float = 5.0
    lost_after: float = 20.0
    grace: float = 25.0
    """How long a stopping worker waits for running handlers before it cancels them."""
    unknown: str = "keep"
    """What becomes of waiting jobs whose task no running worker knows: ``"keep"`` or ``"dead"``."""
    payload_limit: int = PAYLOAD_LIMIT
    """Bytes of encoded JSON, for payloads and results."""


def resolve(given: Mapping[str, Any]) -> Settings:
    """Gather the settings and check them.

    Raises:
        ConfigurationError: one of them cannot be right.
    """
    values = {**_from_file(), **_from_environment(), **{k: v for k, v in given.items() if v is not None}}
    checked = {name: _CHECKS[name](name, value) for name, value in values.items()}
    checked.setdefault("url", DEFAULT_URL)
    settings = Settings(**checked)
    if settings.lost_after < 3 * settings.beat:
        raise ConfigurationError(
            f"lost_after ({settings.lost_after:g} s) must be at least three times beat ({settings.beat:g} s), "
            "or one late heartbeat costs a living worker its jobs"
        )
    return settings


def _from_environment() -> dict[str, Any]:
    return {name: os.environ[key] for name in _CHECKS if (key := f"WINDLASS_{name.upper()}") in os.environ}


def _from_file() -> dict[str, Any]:
    path = Path("pyproject.toml")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("windlass", {})
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read [tool.windlass] from {path}: {error}") from error
    own = {name: value for name, value in table.items() if name != "app"}
    if unknown := set(own) - set(_CHECKS):
        known = ", ".join(sorted(_CHECKS))
        raise ConfigurationError(f"unknown setting {min(unknown)!r} in [tool.windlass]; known are: app, {known}")
    return own


def _duration(name: str, value: Any) -> float:
    return seconds(_number(name, value), name=name) if isinstance(value, str) else seconds(value, name=name)


def _positive(name: str, value: Any) -> float:
    number = _duration(name, value)
    if number <= 0:
        raise ConfigurationError(f"{name} must be more than 0, not {value!r}")
    return number


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ConfigurationError(f"{name} must be a number of seconds, not {value!r}") from None


def _count(name: str, value: Any) -> int:
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= MOST:
        raise ConfigurationError(f"{name} must be a whole number from 1 to {MOST}, not {value!r}")
    return number


def _flag(name: str, value: Any) -> bool:
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    found = known.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise ConfigurationError(f"{name} must be true or false, not {value!r}")
    return found


def _few(name: str, value: Any) -> int:
    return 0 if value in (0, "0") and value is not False else _count(name, value)


def _choice(*allowed: str) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if value not in allowed:
            raise ConfigurationError(f"{name} must be {' or '.join(map(repr, allowed))}, not {value!r}")
        return str(value)

    return check


def _prefix(name: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z_][a-z0-9_]{0,39}", value):
        raise ConfigurationError(f"{name} must be at most 40 of a-z, 0-9 and _, not starting with a digit: {value!r}")
    return value


def check_schema(name: str, value: Any) -> str:
    """Check the name of a schema: it stands in statements and function bodies, quoted but not escaped."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", value) or value.startswith("pg_"):
        raise ConfigurationError(f"{name} must be at most 63 letters, digits and _, not starting with pg_: {value!r}")
    return value


def check_name(name: str, value: Any) -> str:
    """Check the name of a queue or task: printable text of 1 to 200 characters."""
    if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable():
        raise ConfigurationError(f"{name} must be printable text of 1 to 200 characters, not {value!r}")
    return value


def _retention(name: str, value: Any) -> dict[Status, float | None]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{name} must map 'completed', 'cancelled' or 'dead' to durations, not {value!r}")
    kept = dict(RETENTION)
    for key, age in value.items():
        if key not in kept:
            raise ConfigurationError(f"{name} knows 'completed', 'cancelled' and 'dead', not {key!r}")
        kept[Status(key)] = None if age is None else _duration(f"{name}[{key}]", age)
    return kept


def _backoff(name: str, value: Any) -> backoffs.Backoff:
    if callable(value):
        return value  # type: ignore[no-any-return]
    return backoffs.Fixed(_duration(name, value))


def _url(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{name} must be a URL such as 'sqlite:///jobs.db', not {value!r}")
    return value


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "url": _url,
    "max_attempts": _count,
    "max_crashes": _count,
    "backoff": _backoff,
    "timeout": _duration,
    "queue": check_name,
    "retention": _retention,
    "prefix": _prefix,
    "schema": check_schema,
    "listen_url": _url,
    "strict": _flag,
    "replicas": _few,
    "idle": _choice("normal", "quiet"),
    "durability": _choice("full", "relaxed"),
    "migrate": _choice("auto", "check"),
    "poll": _positive,
    "beat": _positive,
    "lost_after": _positive,
    "grace": _duration,
    "unknown": _choice("keep", "dead"),
    "payload_limit": _count,
}
