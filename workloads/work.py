"""Work: FLOPs and bytes of one step, per stage, by the formulas of docs/method/work.md.

Bytes of one table, one forward pass, with n lookups, u distinct rows, w row bytes, B bags, o output row bytes,
i index bytes and a cache line of 64 bytes:

    logical     = n*w
    algorithmic = n*w + B*o + n*i + (B+1)*i
    compulsory  = u*ceil(w/64)*64 + B*o + n*i + (B+1)*i

FLOPs count a multiply and an add as two. A dot interaction of F vectors of width D is computed as F*F*D
multiply-adds of which F(F-1)/2*D are useful; `flops` is what is computed, `flops_useful` what is needed.
"""

from __future__ import annotations

import msgspec

STAGES = ("embedding", "bottom_mlp", "interaction", "top_mlp", "loss", "optimizer")


class StageWork(msgspec.Struct, frozen=True, kw_only=True):
    """Work of one stage in one step (forward, plus backward in a train step). Bytes and FLOPs are totals.

    `working_set_bytes` is what the stage touches over and over across steps: the rows that the rotation of inputs
    touches for the embedding, weights and activations elsewhere.
    """

    flops: int = 0
    flops_useful: int = 0
    bytes_logical: int = 0
    bytes_algorithmic: int = 0
    bytes_compulsory: int = 0
    working_set_bytes: int = 0


class TableTouch(msgspec.Struct, frozen=True, kw_only=True):
    """What the inputs do to one table: mean lookups and distinct rows per step, distinct rows over all inputs."""

    lookups: float
    unique_rows: float
    rotation_unique_rows: int


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """Work of one step.

    `row_bytes` is the mean bytes of a row looked up, weighted by lookups; it selects the gather ceiling.
    """

    samples: int
    lookups: float
    row_bytes: float
    stages: dict[str, StageWork]

    def total(self, field: str) -> int:
        """Sum of one StageWork field over the stages."""
        return sum(int(getattr(stage, field)) for stage in self.stages.values())
