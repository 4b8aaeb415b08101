"""What makes two failures the same: the fingerprint of an error.

Theory: an operator wants one line for "the mail server is away", not ten thousand. Two errors are the same when they are
of one type, say the same but for what differs from job to job, and were raised by the same function. Numbers, quoted text,
paths and identifiers are taken out of the message, line numbers out of the place: a deploy that moves a line does not make
an old problem a new one.

Rules: a fingerprint is 16 hexadecimal digits. It is computed once, where the failure is described, and stored at the very
end of the error's JSON, so that a store finds it without parsing: see :data:`TAIL`.
"""

from __future__ import annotations

import re
from hashlib import blake2b

LENGTH = 16
TAIL = LENGTH + len('"}')
"""The fingerprint starts so many bytes before the end of a stored error."""
_KNOWN = re.compile(r"[0-9a-f]{16}\Z")
_STORED = re.compile(rb'"fingerprint":"([0-9a-f]{16})"}\Z')
_READ = 1000
"""Characters of a message that are looked at."""
_VARYING = (
    (re.compile(r"'[^']*'|\"[^\"]*\""), "…"),
    (re.compile(r"\b[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\b"), "#"),
    (re.compile(r"(?:/[\w.@+-]+){2,}/?"), "/"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b|\b(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,}\b"), "#"),
    (re.compile(r"\d+(?:[.,:]\d+)*"), "#"),
    (re.compile(r"\s+"), " "),
)


def fingerprint(kind: str, message: str, place: str = "") -> str:
    """Return the fingerprint of an error of this type that says this and was raised in this place."""
    text = "\0".join((kind, normalised(message), place))
    return blake2b(text.encode("utf-8", "replace"), digest_size=LENGTH // 2).hexdigest()


def normalised(message: str) -> str:
    """Return a message without what differs from job to job.

    >>> normalised("no user 4711 in '/srv/a b': 0x7f3a")
    'no user # in …: #'
    """
    text = message[:_READ]
    for pattern, mark in _VARYING:
        text = pattern.sub(mark, text)
    return text.strip()


def is_fingerprint(text: str) -> bool:
    """Whether a text is spelt like one."""
    return _KNOWN.match(text) is not None


def cut(error: bytes | None) -> str | None:
    """Return the fingerprint at the end of a stored error; ``None``: it has none."""
    found = None if error is None else _STORED.search(error)
    return None if found is None else found[1].decode()
