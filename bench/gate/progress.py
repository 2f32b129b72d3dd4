"""Live progress of a gate run: says what is being decided. A spinner on a terminal, lines elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.status import Status

from bench.gate.ledger import CONTROLS, Ledger
from bench.gate.log import Blocks, Counted, EpochPlan, Failed, GateManifest, Line, Stopped
from bench.progress import seconds

MAX_NAMES = 4


class Progress:
    """Observes a GateRun. Use as a context manager."""

    def __init__(self, console: Console, manifest: GateManifest) -> None:
        self._console, self._manifest = console, manifest
        self._status: Status | None = None
        self._left = 0
        self._doing = ""

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._status = self._console.status("starting")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def counting(self, cases: int) -> None:
        """The deterministic pass begins."""
        self._say(f"counting operators, copies and bytes of {cases} cases on each side")

    def epoch(self, plan: EpochPlan, ledger: Ledger) -> None:
        """An epoch begins: what it is for."""
        cases = [c for c in plan.order if c not in CONTROLS]
        known = f", the last took {seconds(ledger.epoch_s[-1])}" if ledger.epoch_s else ""
        if plan.stage == 1:
            tried = max((ledger.epochs_of(c, 1).tried for c in cases), default=0) + 1
            least = self._manifest.preset.n1[0]
            told = f"stage 1, epoch {tried} (at least {least}): screening {_listed(cases)}"
        else:
            tried = max((ledger.epochs_of(c, 2).tried for c in cases), default=0) + 1
            told = f"stage 2, new epoch {tried}: confirming {_listed(cases)}"
        self._say(told + known)
        self._left = len(plan.order)

    def line(self, line: Line) -> None:
        """Failures are told as they come; block pairs move the spinner."""
        if isinstance(line, Failed) or (isinstance(line, Counted) and line.outcome == "error"):
            self._print(f"{line.case}: {line.side} failed: {line.message}")
        elif isinstance(line, Stopped):
            self._print("the budget has ended; deciding on what there is")
        elif isinstance(line, Blocks) and self._status is not None:
            self._left -= 1
            self._status.update(f"{self._doing} ({self._left} left in this epoch)")

    def _say(self, text: str) -> None:
        self._doing = text
        if self._status is not None:
            self._status.update(text)
        else:
            self._print(text)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


def _listed(names: list[str]) -> str:
    shown = sorted(names)[:MAX_NAMES]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"{len(names)} cases: " + ", ".join(shown) + more
