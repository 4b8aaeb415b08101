"""Run the works of all contenders in interleaved rounds, and take medians.

A work is measured of one contender after the other, so that what is compared is measured within minutes. Odd rounds go
forwards, even ones backwards, so that a machine that grows slower favours nobody. Each work runs in a fresh process and
a fresh folder, on the disk of the checkout: a RAM disk would make every commit free.
"""

import multiprocessing
import shutil
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import numbers, process
from benchmarks.contender import Contender, Figure, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Measures contenders; figures are named `contender.work` or `contender.work.part`."""

    contenders: Sequence[Contender]
    rounds: int
    awake: bool
    folder: Path
    progress: Callable[[str], None]
    figures: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Run all rounds."""
        names = dict.fromkeys(work for contender in self.contenders for work in contender.works)
        works = [(contender, work) for work in names for contender in self.contenders if work in contender.works]
        for turn in range(self.rounds):
            for contender, work in works if turn % 2 == 0 else reversed(works):
                self.progress(f"round {turn + 1} of {self.rounds}: {contender.name}.{work}")
                self.attempt(contender, work)

    def medians(self) -> Mapping[str, float]:
        """Return the median of each figure measured so far."""
        return {name: statistics.median(values) for name, values in self.figures.items()}

    def attempt(self, contender: Contender, work: str) -> None:
        """Measure one work and keep its figure, or say why there is none: the others are measured all the same."""
        name = f"{contender.name}.{work}"
        try:
            self.note(name, self.best(contender, work))
        except Exception as error:  # noqa: BLE001  # whatever a contender does
            self.failures.append(f"{name}: {error!r}")

    def best(self, contender: Contender, work: str) -> Figure:
        """Measure one work; a drain also with a core kept awake, if wished, and then the better figure counts."""
        figure = self.measure(contender, work, awake=False)
        if not (self.awake and work in contender.drains):
            return figure
        other = self.measure(contender, work, awake=True)
        return max(figure, other) if isinstance(figure, float) and isinstance(other, float) else figure

    def measure(self, contender: Contender, work: str, *, awake: bool) -> Figure:
        """Measure one work once, in a process and a folder of its own."""
        folder = self.folder / f"{contender.name}-{work}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        spawn = multiprocessing.get_context("spawn")
        with process.awake() if awake else nullcontext(), ProcessPoolExecutor(1, mp_context=spawn) as fresh:
            figure = fresh.submit(contender.works[work], folder).result()
        shutil.rmtree(folder)
        return figure

    def note(self, name: str, figure: Figure) -> None:
        """Keep a figure, or each part of it, of one round."""
        parts: Iterable[tuple[str, float]] = (
            ((f"{name}.{part}", value) for part, value in figure.items())
            if isinstance(figure, Mapping)
            else [(name, figure)]
        )
        for key, value in parts:
            self.figures.setdefault(key, []).append(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A goal beside what was measured: a ratio or a plain figure, None where one is missing.

    `against` is the figure that it was compared with: the best of those that the goal names.
    """

    goal: numbers.Goal
    measured: float | None
    against: str | None

    @property
    def reached(self) -> str:
        """Say `aim`, `must` or `missed`, or nothing if it was not measured."""
        if self.measured is None:
            return ""
        if not self.goal.met(self.measured, self.goal.must):
            return "missed"
        return "aim" if self.goal.aim is not None and self.goal.met(self.measured, self.goal.aim) else "must"


def verdicts(medians: Mapping[str, float], stores: Iterable[Store]) -> list[Verdict]:
    """Compare the medians with the goals on these stores."""
    return [verdict(goal, medians) for store in stores for goal in numbers.GOALS[store]]


def verdict(goal: numbers.Goal, medians: Mapping[str, float]) -> Verdict:
    """Compare one goal with the best of the figures it is against, as far as they were measured."""
    figure = medians.get(goal.work)
    if not goal.against:
        return Verdict(goal=goal, measured=figure, against=None)
    best = goal.best({name: medians[name] for name in goal.against if name in medians})
    if best is None or figure is None:
        return Verdict(goal=goal, measured=None, against=best)
    return Verdict(goal=goal, measured=figure / medians[best], against=best)
