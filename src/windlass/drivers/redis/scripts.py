"""The Lua scripts: read from the package, put together, and known to the server by their digest.

A script names the parts that it uses in its first line. Parts in brackets, as in ``flow(holds gates)``, are made when a
script first calls ``flow()``, which returns the table that they fill: making a function takes the server a microsecond, and
most scripts need few. For the same reason all that follows the bar is inside a function: one that is made there finds what
comes before the bar at once, and elsewhere by a search.

The version is in the text, and so in the digest: two releases that differ work side by side, each with its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
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


_GROUP = """local made_{name}
local function {name}()
  if made_{name} then return made_{name} end
  local made = {{}}
  made_{name} = made
{parts}
  return made
end
"""


def _part(name: str) -> str:
    return _folder().joinpath(f"{name}.lua").read_text("utf-8")


def _parts(first: str) -> Iterator[str]:
    """Read what the first line of a script names."""
    for name, members, single in re.findall(r"(\w+)\(([\w ]*)\)|(\w+|\|)", first.removeprefix("-- uses:")):
        if single == "|":
            yield "return (function()"
        elif single:
            yield _part(single)
        else:
            yield _GROUP.format(name=name, parts="\n".join(map(_part, members.split())))


def _text(name: str) -> str:
    own = _part(name)
    first = own.partition("\n")[0]
    parts = list(_parts(first)) if first.startswith("-- uses:") else []
    end = ["end)()"] if "|" in first else []
    return "\n".join([f"-- windlass {name} {VERSION}", *parts, own, *end])
