"""Exit codes, and errors in one line.

===  ==========================================================================
0    done
1    the thing asked about failed or was refused, or the doctor found an error
2    the command was given wrongly, or is not built yet
3    the store cannot be reached or used
4    there is no such job, batch or schedule
130  interrupted
===  ==========================================================================
"""

from __future__ import annotations

import sys
from enum import IntEnum

from windlass.errors import (
    BatchNotFoundError,
    ConfigurationError,
    JobNotFoundError,
    NotSupportedError,
    ScheduleNotFoundError,
    StoreError,
    TaskError,
)


class Code(IntEnum):
    """What a command exits with."""

    OK = 0
    FAILED = 1
    """The thing asked about failed or was refused."""
    USAGE = 2
    STORE = 3
    """The store cannot be reached or used."""
    MISSING = 4
    """There is no such job, batch or schedule."""


def code_of(error: Exception) -> Code:
    """Return the exit code for an error."""
    match error:
        case JobNotFoundError() | BatchNotFoundError() | ScheduleNotFoundError():
            return Code.MISSING
        case StoreError():
            return Code.STORE
        case ConfigurationError() | TaskError() | NotSupportedError():
            return Code.USAGE
        case _:
            return Code.FAILED


def say(message: object) -> None:
    """Tell what is wrong, in one line."""
    # Straight to the stream: errors must come out whole, whatever the terminal is.
    sys.stderr.write(f"error: {' '.join(str(message).split())}\n")
