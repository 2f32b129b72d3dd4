"""Operator by operator from Python, as the model is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workloads.executions import Ready, Want

if TYPE_CHECKING:
    from workloads.steps import ModelBundle, Prepared


def available(want: Want) -> str | None:
    """Always: what the backend can do, eager can."""
    return None


def wrap(bundle: ModelBundle, inputs: Sequence[Prepared], scratch: Path) -> Ready:
    """The step as it is; nothing to prepare."""
    from workloads.steps import make_step

    return Ready(step=make_step(bundle), annotated=bundle.model)
