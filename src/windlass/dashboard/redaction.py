"""What nobody gets to see: values under names that sound like secrets, in payloads, results and what errors carry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

HIDDEN = "•••"
NAMES = (
    "password", "passwd", "passphrase", "pwd", "secret", "token", "api_key", "apikey", "access_key", "private_key",
    "authorization", "auth", "cookie", "credential", "credentials", "session", "pin", "cvv", "iban", "ssn", "card_number",
)  # fmt: skip
"""Hidden where they are the whole of a name or one of its words: ``db_password``, ``accessToken``."""
ROOTS = ("password", "passwd", "passphrase", "secret", "apikey", "credential", "cookie")
"""Hidden wherever they stand in a name: ``mypassword``, ``password2``, ``secrets``."""
_WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
DEEP = 50


class Redactor:
    """Hides.

    Args:
        names: more names to hide, as in ``NAMES``.
        hook: gets ``(task, value)`` of what is about to be shown, after the names, and returns what is.
    """

    def __init__(self, names: Collection[str] = (), hook: Callable[[str, Any], Any] | None = None) -> None:
        self._names = tuple(f"_{_spelt(name)}_" for name in (*NAMES, *names))
        self._hook = hook

    def __call__(self, task: str, value: Any) -> Any:
        """Return a value without its secrets."""
        shown = self._hide(value, DEEP)
        return shown if self._hook is None or value is None else self._hook(task, shown)

    def hides(self, name: str) -> bool:
        """Whether what is under this name is hidden."""
        spelt = f"_{_spelt(name)}_"
        return any(known in spelt for known in self._names) or any(root in spelt for root in ROOTS)

    def _hide(self, value: Any, depth: int) -> Any:
        if depth == 0:
            return "…"
        if isinstance(value, dict):
            return {
                name: HIDDEN if self.hides(str(name)) and inner is not None else self._hide(inner, depth - 1)
                for name, inner in value.items()
            }
        if isinstance(value, list):
            return [self._hide(inner, depth - 1) for inner in value]
        return value


def _spelt(name: str) -> str:
    """Return a name in words with lines between: ``accessToken`` as ``access_token``."""
    return "_".join(word.lower() for word in _WORDS.findall(name))
