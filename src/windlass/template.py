"""Keys made of a job's arguments: ``"tenant:{tenant_id}"``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windlass.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 500
"""Characters of a key at most."""


def fill(template: str | Callable[..., str], arguments: Any, *, what: str, task: str) -> str:
    """Return the key that a job with these arguments has.

    *template* is text with names of arguments in braces, fields of them as ``{order[customer]}``, or a function that
    takes the arguments by name.

    Raises:
        ConfigurationError: it names an argument that there is not, or gives no text.
    """
    named = arguments if isinstance(arguments, dict) else {"payload": arguments}
    try:
        key: Any = template(**named) if callable(template) else template.format_map(named)
    except Exception as error:
        raise ConfigurationError(f"the {what} {template!r} does not fit task {task!r}: {error!r}") from error
    if not isinstance(key, str) or not 0 < len(key) <= LONGEST or not key.isprintable():
        raise ConfigurationError(
            f"the {what} of task {task!r} must be printable text of 1 to {LONGEST} characters, not {key!r}"
        )
    return key
