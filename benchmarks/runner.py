"""Run the works of all contenders in interleaved rounds, and take medians.

Odd rounds go forwards, even ones backwards, so that a machine that grows slower favours nobody. Each work runs in a
fresh process and a fresh folder, on the disk of the checkout: a RAM disk would make every commit free.
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
from benchmarks.contender import Contender, Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Measures contenders; figures are named `contender.work` or `contender.work.part`."""

    contenders: Sequence[Contender]
    rounds: int
    awake: bool
    folder: Path
    progress: Callable[[str], None]
    figures: dict[str, list[float]] = field(default_factory=dict)

    def run(self) -> Mapping[str, float]:
        """Run all rounds and return the median of each figure."""
        works = [(contender, work) for contender in self.contenders for work in contender.works]
        for turn in range(self.rounds):
            for contender, work in works if turn % 2 == 0 else reversed(works):
                self.progress(f"round {turn + 1} of {self.rounds}: {contender.name}.{work}")
                self.note(f"{contender.name}.{work}", self.best(contender, work))
        return {name: statistics.median(values) for name, values in self.figures.items()}

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
    """A goal beside what was measured: a ratio, or a plain figure for a ceiling; None where one is missing."""

    goal: numbers.Goal
    measured: float | None

    @property
    def reached(self) -> str:
        """Say `aim`, `must` or `missed`, or nothing if it was not measured."""
        if self.measured is None:
            return ""
        if self.goal.met(self.measured, self.goal.aim):
            return "aim"
        return "must" if self.goal.met(self.measured, self.goal.must) else "missed"


def verdicts(medians: Mapping[str, float]) -> list[Verdict]:
    """Compare the medians with the goals."""
    return [Verdict(goal=goal, measured=measured(goal, medians)) for goal in numbers.GOALS]


def measured(goal: numbers.Goal, medians: Mapping[str, float]) -> float | None:
    """Return what the goal bounds, if everything it takes was measured."""
    figure = medians.get(goal.work)
    if figure is None or goal.against is None:
        return figure
    against = medians.get(goal.against)
    return figure / against if against else None
