"""A random program: jobs with keys, limits, rates, in batches and chains, and some of them cancelled or mended."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from windlass import PREVIOUS, JobStateError, chain

if TYPE_CHECKING:
    import random
    from datetime import datetime

    from windlass import Job, Windlass
    from windlass.client.batch import Batch

KEYS = ("a", "b", "c")
TENANTS, HOSTS = 3, 3
EVENTS = ("success", "complete", "death")
STEPS = 3
WEIGHTS = {"once": 6, "latest": 6, "feed": 3, "narrow": 10, "paced": 8, "batch": 1, "chain": 3, "cancel": 3}
MEMBERS = {"end": 30, "fail": 3, "grow": 4, "crash": 1, "poison": 1}


class Program:
    """What is enqueued, and what was promised about it."""

    def __init__(self, app: Windlass, dice: random.Random) -> None:
        self.app = app
        self.dice = dice
        self.tasks = app.tasks
        self.acknowledged: set[int] = set()
        self.batches: dict[int, tuple[int, ...]] = {}
        """Those nested in each."""
        self.chains = 0
        self.mended: dict[int, Job] = {}
        """Members that were retried at the end, as they were before."""
        self.mended_at: datetime | None = None

    def start(self) -> None:
        """Enqueue one of each, so that no program is without: of batches one with every fault, and a failure far below."""
        self.batch(("end",), below=(("end",), ("end", "fail")))
        self.batch(tuple(MEMBERS))
        for name in WEIGHTS:
            getattr(self, name)()

    def go_on(self, steps: int) -> None:
        for name in self.dice.choices(tuple(WEIGHTS), WEIGHTS.values(), k=steps):
            getattr(self, name)()

    # ------------------------------------------------------------------ the steps

    def once(self) -> None:
        self._call("once", self._keyed())

    def latest(self) -> None:
        self._call("latest", self._keyed())

    def feed(self) -> None:
        calls = [(self.dice.choice(("once", "latest")), self._keyed()) for _ in range(4)]
        self._call("feed", {"calls": calls})

    def narrow(self) -> None:
        self._call("narrow", {"tenant": self.dice.randrange(TENANTS), "length": self._length()})

    def paced(self) -> None:
        self._call("paced", {"host": self.dice.randrange(HOSTS)})

    def chain(self) -> None:
        self.acknowledged.add(self._chain().enqueue().id)

    def batch(
        self, members: tuple[str, ...] = (), parent: Batch | None = None, below: tuple[tuple[str, ...], ...] = ()
    ) -> int:
        report = self.tasks["report"]
        callbacks = {f"on_{event}": report.job() for event in EVENTS}
        nested = []
        with self.app.batch("chaos", parent=parent, **callbacks) as batch:  # type: ignore[arg-type]
            for does in members or self.dice.choices(tuple(MEMBERS), MEMBERS.values(), k=self.dice.randint(0, 5)):
                batch.add(self._member(does))
            if self.dice.random() < 0.5:
                batch.add(self._chain())
            if below:
                nested.append(self.batch(below[0], batch, below[1:]))
            while not members and self.dice.random() < 0.3:
                nested.append(self.batch(parent=batch))
        self.batches[batch.id] = tuple(nested)
        if not members and self.dice.random() < 0.1:
            batch.cancel()
        return batch.id

    def cancel(self) -> None:
        with suppress(JobStateError):
            self.app.cancel(self.dice.choice(sorted(self.acknowledged)[-30:]))

    def mend(self) -> None:
        """Retry what has died or was cancelled in most batches, the first among them; all have ended before."""
        self.mended_at = self.app.enqueue("report", queue="default").created_at
        for batch_id in self.batches:
            if batch_id % 4:
                for job in self.app.jobs(batch=batch_id, status=("dead", "cancelled"), limit=1000):
                    self.mended[job.id] = job
                    self.app.retry(job.id, mode="extend")

    # ------------------------------------------------------------------ their parts

    def _call(self, task: str, payload: dict[str, Any]) -> None:
        job = self.app.enqueue(task, payload, delay=self.dice.choice((0, 0, 0, 0.3)))
        assert job.created or job.payload["key"] == payload["key"]
        self.acknowledged.add(job.id)

    def _keyed(self) -> dict[str, Any]:
        return {"key": self.dice.choice(KEYS), "length": self._length(), "fails": self.dice.random() < 0.2}

    def _length(self) -> float:
        return self.dice.uniform(0.01, 0.1)

    def _chain(self) -> Any:
        self.chains += 1
        step, befores = self.tasks["step"], ([], *[PREVIOUS] * (STEPS - 1))
        first, *later = (
            step.job((self.chains, number), before, self._length(), self.dice.random() < 0.2)
            for number, before in enumerate(befores, 1)
        )
        return chain(first, *later)

    def _member(self, does: str) -> Any:
        member = self.tasks["member"]
        if does == "poison":
            return member.using(on_crash="dead").job("crash")
        return member.job(does, self._length())
