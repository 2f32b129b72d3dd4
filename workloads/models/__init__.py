"""Model variants: one file each, the file name is the id. Listing and counting import no torch; building does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import msgspec

from workloads import catalogue
from workloads.spec import ModelSpec
from workloads.work import TableTouch, Work, embedding_work

if TYPE_CHECKING:
    from workloads.layers import Annotated
    from workloads.pooling import Embedding


class Variant(Protocol):
    """What a file in this folder offers."""

    def build(self, spec: ModelSpec, embedding: Embedding) -> Annotated:
        """The torch module; forward(dense, embedding_inputs). Raises SpecError where the spec does not fit."""

    def count_work(
        self,
        spec: ModelSpec,
        batch_size: int,
        phase: str,
        touches: tuple[TableTouch, ...],
        dense_bytes: int = 4,
    ) -> Work:
        """FLOPs and bytes of one step, per stage; in a train step with SGD."""

    def dense_parameters(self, spec: ModelSpec) -> int:
        """Parameters outside the tables."""

    def activations_per_sample(self, spec: ModelSpec) -> int:
        """Elements of intermediate results that one sample needs in the forward pass."""


def names() -> list[str]:
    """Ids of all variants."""
    return catalogue.names(Path(__file__).parent)


def load(name: str) -> Variant:
    """The variant called `name`. Raises SpecError for an unknown one."""
    return cast(Variant, catalogue.load_module("variant", __name__, Path(__file__).parent, name))


def count_work(
    spec: ModelSpec,
    batch_size: int,
    phase: str,
    touches: tuple[TableTouch, ...],
    dense_bytes: int = 4,
    optimizer: str = "sgd",
) -> Work:
    """Work of one step of `spec` in its variant's own count; `touches` has one entry per table.

    `optimizer` is that of the tables and read in a train step only; dense parameters are updated by SGD.
    """
    work = load(spec.variant).count_work(spec, batch_size, phase, touches, dense_bytes)
    if optimizer == "sgd":
        return work
    # What it keeps lies beside the rows, whatever the variant does with them.
    tables = embedding_work(spec.tables, batch_size, phase, touches, optimizer)
    return msgspec.structs.replace(work, stages=work.stages | {"embedding": tables})


def count_parameters(spec: ModelSpec) -> int:
    """Parameters of the tables and of the dense part."""
    return sum(t.num_rows * t.dim for t in spec.tables) + load(spec.variant).dense_parameters(spec)
