"""Everything that changes something on behalf of a visitor: done here, and written into the audit."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from windlass.errors import WindlassError
from windlass.report import Done

if TYPE_CHECKING:
    from collections.abc import Callable

    from windlass.dashboard.call import Call

log = logging.getLogger(__name__)
T = TypeVar("T")


def act(call: Call, action: str, target: str, do: Callable[[], T], *, detail: str = "") -> T:
    """Do it and write down who did; what is refused is written down too, and raised.

    An audit that cannot be written does not undo what was done, but is logged with all that it would have said.
    """
    try:
        answer = do()
    except WindlassError as error:
        _write(call, action, target, done=0, refused=1, detail=str(error))
        raise
    done, refused = (len(answer.ids), len(answer.refused)) if isinstance(answer, Done) else (1, 0)
    _write(call, action, target, done=done, refused=refused, detail=detail)
    return answer


def _write(call: Call, action: str, target: str, *, done: int, refused: int, detail: str) -> None:
    who = call.who.name
    try:
        call.app.record_action(who, action, _clean(target), done=done, refused=refused, detail=_clean(detail)[:2000])
    except WindlassError:
        log.exception(
            "the audit is missing: %s: %s %s, %d done, %d refused, %s", who, action, target, done, refused, detail
        )


def _clean(text: str) -> str:
    """Return text as every store can keep it."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
