"""The Lua scripts: read from the package, put together, and known to the server by their digest.

A script names the parts that it uses in its first line. The version is in the text, and so in the digest: two releases
that differ work side by side, each with its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import resources

VERSION = 1

Edit = Callable[[str], str]


class Script:
    """One script with its digest."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text.encode()
        self.digest = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()


class Scripts:
    """All scripts. *edit* changes their text, so that a test can stop the clock."""

    def __init__(self, edit: Edit | None = None) -> None:
        self._edit = edit or str
        self._made: dict[str, Script] = {}

    def __getitem__(self, name: str) -> Script:
        script = self._made.get(name)
        if script is None:
            script = self._made[name] = Script(name, self._edit(_text(name)))
        return script


def _folder() -> resources.abc.Traversable:
    return resources.files(__package__).joinpath("lua")


def _uses(text: str) -> list[str]:
    first = text.partition("\n")[0]
    return first.removeprefix("-- uses:").split() if first.startswith("-- uses:") else []


def _text(name: str) -> str:
    own = _folder().joinpath(f"{name}.lua").read_text("utf-8")
    parts = [_folder().joinpath(f"{part}.lua").read_text("utf-8") for part in _uses(own)]
    return "\n".join([f"-- windlass {name} {VERSION}", *parts, own])
