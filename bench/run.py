"""A run as it is read back: what was asked, what was measured, what was learned. What reports are made of."""

from __future__ import annotations

from typing import NamedTuple

from bench import metrics
from bench.records import Manifest, QualityTrial, Record
from profiles.machine import Machine


class Run(NamedTuple):
    """One run, or several merged: its manifest, records in order, quality trials, and second records of some cases."""

    manifest: Manifest
    records: tuple[Record, ...] = ()
    trials: tuple[QualityTrial, ...] = ()
    again: tuple[Record, ...] = ()

    @property
    def machine(self) -> Machine:
        """The machine that the run was made on."""
        return self.manifest.machine

    @property
    def measured(self) -> list[Record]:
        """Records of cases that ended well and hold times."""
        return [r for r in self.records if r.outcome.status == "ok" and metrics.step_s(r)]
