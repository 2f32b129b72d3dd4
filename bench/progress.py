"""Live progress of a sweep: a bar with ETA on a terminal, a line per case elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bench.records import QualityTrial, Record
from bench.sweep import Job, Observer


def seconds(value: float) -> str:
    """A duration for people: 45 s, 3 min 20 s, 2 h 5 min."""
    if value < 60:
        return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def result_line(record: Record | QualityTrial) -> str:
    """One case's or trial's result in a few words."""
    if isinstance(record, QualityTrial):
        return _trial_line(record)
    if record.measurement is None or record.outcome.status != "ok":
        return f"{record.outcome.status}: {record.outcome.reason}"
    step_s = median(record.measurement.times_s)
    rate = record.case.batch_size / step_s
    flags = f"  ({', '.join(record.measurement.flags)})" if record.measurement.flags else ""
    return f"{step_s * 1e3:.3g} ms/step, {rate:,.0f} samples/s{flags}"


def _trial_line(trial: QualityTrial) -> str:
    if not trial.curve or trial.bayes_log_loss is None:
        return f"{trial.outcome.status}: {trial.outcome.reason}"
    last = trial.curve[-1]
    return f"log loss {last.log_loss:.4f} (truth {trial.bayes_log_loss:.4f}), AUC {last.auc:.4f}, {last.train_s:.1f} s"


class _Estimate:
    """Time left: the plan's estimates, scaled by how far off they have been."""

    def __init__(self, planned: Sequence[Job]) -> None:
        import time

        self._clock = time.monotonic
        self._estimates = {p.key: p.estimate_s for p in planned}
        self._left = sum(self._estimates.values())
        self._done_estimate = 0.0
        self._began = self._clock()

    def begin(self, keys_left: Sequence[str]) -> None:
        self._left = sum(self._estimates[k] for k in keys_left)

    def ended(self, key: str) -> None:
        self._left -= self._estimates[key]
        self._done_estimate += self._estimates[key]

    @property
    def left_s(self) -> float:
        elapsed = self._clock() - self._began
        factor = elapsed / self._done_estimate if self._done_estimate > 0 else 1.0
        return max(0.0, self._left * factor)


class _Bar:
    def __init__(self, progress: Progress, task: TaskID, planned: Sequence[Job]) -> None:
        self._progress, self._task = progress, task
        self._planned = [p.key for p in planned]
        self._estimate = _Estimate(planned)
        self._current = ""

    def started(self, number: int, total: int, planned: Job) -> None:
        self._estimate.begin(self._planned[number - 1 :])
        self._current = planned.key
        self._progress.update(self._task, completed=number - 1, case=planned.key, left=self._left())

    def phase(self, name: str) -> None:
        self._progress.update(self._task, case=f"{self._current} [{name}]", left=self._left())

    def ended(self, record: Record | QualityTrial) -> None:
        self._estimate.ended(record.key)
        self._progress.advance(self._task)
        self._progress.update(self._task, left=self._left())
        self._progress.console.print(f"{record.key}: {result_line(record)}", markup=False, soft_wrap=True)

    def _left(self) -> str:
        return seconds(self._estimate.left_s)


class _Lines:
    def __init__(self, console: Console, planned: Sequence[Job]) -> None:
        self._console = console
        self._planned = [p.key for p in planned]
        self._estimate = _Estimate(planned)
        self._position = ""

    def started(self, number: int, total: int, planned: Job) -> None:
        self._estimate.begin(self._planned[number - 1 :])
        self._position = f"[{number}/{len(self._planned)}]"

    def phase(self, name: str) -> None:
        """Phases are not worth a line."""

    def ended(self, record: Record | QualityTrial) -> None:
        self._estimate.ended(record.key)
        left = f"{seconds(self._estimate.left_s)} left"
        line = f"{self._position} {record.key}: {result_line(record)}; {left}"
        self._console.print(line, markup=False, soft_wrap=True)


@contextmanager
def observer(console: Console, planned: Sequence[Job]) -> Iterator[Observer]:
    """The observer that suits where stderr goes."""
    if not console.is_terminal:
        yield _Lines(console, planned)
        return
    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]} left"),
        TextColumn("{task.fields[case]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("sweep", total=len(planned), case="starting", left="?")
        yield _Bar(progress, task, planned)
