"""Jobs that are enqueued all the time, and kept count of."""

import itertools
import threading
from typing import Self

from tests.waiting import until
from windlass import ConnectionLostError, StoreFullError, Windlass

PACE = 0.01
"""Seconds between enqueues: what two cores that are busy otherwise can run besides a server and a few workers."""


class Traffic:
    """Enqueues on a thread of its own, sometimes several at once, until told to stop."""

    def __init__(self, app: Windlass) -> None:
        self.acknowledged: list[int] = []
        self.lost = 0
        """Enqueues that have raised ``ConnectionLostError``."""
        self.full = 0
        """Enqueues that have raised ``StoreFullError``."""
        self.error: Exception | None = None
        self._app = app
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def _run(self) -> None:
        for number in itertools.count():
            if self._stop.wait(PACE):
                return
            task = ("in_thread", "on_loop")[number % 2]
            try:
                self.acknowledged.append(self._app.enqueue(task, {"length": 0.01 * (number % 3)}).id)
            except ConnectionLostError:
                self.lost += 1
            except StoreFullError:
                self.full += 1
            except Exception as error:
                self.error = error
                return

    def flows(self, number: int = 25, *, timeout: float = 30.0) -> None:
        """Wait until so many more are acknowledged."""
        goal = len(self.acknowledged) + number
        until(lambda: self.error or len(self.acknowledged) >= goal, timeout=timeout)
        assert self.error is None

    def stop(self) -> list[int]:
        """Return what was acknowledged."""
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.error is None, self.error
        return self.acknowledged

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
