"""Building a model on a backend, and the step that is timed. Imports torch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from workloads import backends, models, options, placements
from workloads.batch import Batch
from workloads.layers import Annotate, Annotated
from workloads.pooling import Bags
from workloads.spec import ModelSpec, SpecError, has_pair_table, unknown
from workloads.work import is_training

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
INDEX_DTYPES = {"int64": torch.int64, "int32": torch.int32}


class Prepared(NamedTuple):
    """A batch on the device: dense (B, num_dense) in the dense dtype, the backend's inputs, labels (B,) float32."""

    dense: Tensor
    lookups: tuple[Bags, ...]
    labels: Tensor


@dataclass(frozen=True)
class ModelBundle:
    """A model with filled tables, ready for steps of `phase`. `optimizer` is None in the forward phase.

    `optimizers` maps the annotation of an update to what does it: the dense parameters, and the tables where the
    backend does not update them itself. Empty in the forward phase. `index_dtype` is that of prepared indices and
    offsets; `inference_mode` runs the forward step under torch.inference_mode instead of no_grad.
    """

    spec: ModelSpec
    backend: str
    model: Annotated
    device: torch.device
    dtype: torch.dtype
    phase: str
    optimizer: str | None
    learning_rate: float
    optimizers: dict[str, torch.optim.SGD]
    index_dtype: str = "int64"
    inference_mode: bool = False

    def prepare(self, batch: Batch) -> Prepared:
        """Convert a batch outside the timed region."""
        bags = self.model.embedding.prepare(batch)
        wanted = INDEX_DTYPES[self.index_dtype]
        return Prepared(
            torch.from_numpy(batch.dense).to(self.device, self.dtype),
            tuple(b._replace(indices=b.indices.to(wanted), offsets=b.offsets.to(wanted)) for b in bags),
            torch.from_numpy(batch.labels).to(self.device),
        )


TABLE_UPDATE = "embedding_update"
"""Annotation of a table update that is not fused into backward; part of the embedding stage."""

Step = Callable[[Prepared], Tensor]


class Callee(Protocol):
    """What a step calls as the model: the model itself, or what an execution made of it."""

    annotate: Annotate

    def __call__(self, dense: Tensor, lookups: tuple[Bags, ...]) -> Any:
        """The model's output."""


def build_model(
    spec: ModelSpec,
    backend: str = "bag",
    *,
    device: str = "cpu",
    dtype: str = "float32",
    phase: str = "forward",
    optimizer: str = "sgd",
    seed: int = 0,
    num_threads: int | None = None,
    learning_rate: float = 0.1,
    placement: str = "device",
    cache_load_factor: float = 0.2,
    index_dtype: str = "int64",
    bounds_check: str = "none",
    inference_mode: bool = False,
) -> ModelBundle:
    """The model on the backend, tables filled by `num_threads` threads and dense parameters drawn from `seed`.

    Equal seeds give equal tables and dense parameters on every backend. `placement`: see workloads/placements.py;
    `index_dtype`, `bounds_check` and `inference_mode`: see workloads/options.py.
    Raises SpecError for what is unknown or cannot run, with the backend's reason.
    """
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, list(DTYPES))
    training = is_training(phase)
    refused = backends.refusal(
        backend, spec.tables, device=device, dtype=dtype, phase=phase, optimizer=optimizer, placement=placement
    )
    refused = refused or options.refusal(
        backend,
        spec.tables,
        device=placements.table_device(device, placement),
        phase=phase,
        index_dtype=index_dtype,
        bounds_check=bounds_check,
        inference_mode=inference_mode,
    )
    if refused:
        raise refused
    chosen, where = backends.load(backend), placements.table_device(device, placement)
    embedding = chosen.build(
        spec.tables,
        device=where,
        dtype=DTYPES[dtype],
        optimizer=optimizer if training else None,
        learning_rate=learning_rate,
        **placements.extra(chosen, placement, cache_load_factor),
        **({"bounds_check": bounds_check} if bounds_check != "none" else {}),
    )
    embedding.output_device = torch.device(device)
    embedding.fill(seed, num_threads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = models.load(spec.variant).build(spec, embedding)
    for module in model.dense_modules():
        module.to(torch.device(device), DTYPES[dtype])
    return ModelBundle(
        spec=spec,
        backend=backend,
        model=model.train(training),
        device=torch.device(device),
        dtype=DTYPES[dtype],
        phase=phase,
        optimizer=optimizer if training else None,
        learning_rate=learning_rate,
        optimizers=_optimizers(model, learning_rate) if training else {},
        index_dtype=index_dtype,
        inference_mode=inference_mode,
    )


def _optimizers(model: Annotated, learning_rate: float) -> dict[str, torch.optim.SGD]:
    """Tables apart from the rest, so that a trace tells what their update costs, as a fused backend's would."""
    tables = [] if model.embedding.fused_optimizer else list(model.embedding.parameters())
    parameters = {"optimizer": model.dense_parameters(), TABLE_UPDATE: tables}
    return {name: torch.optim.SGD(p, lr=learning_rate) for name, p in parameters.items() if p}


def parameter_counts(bundle: ModelBundle) -> dict[str, int]:
    """Parameters of the built model by what they belong to; a table of hashed pairs belongs to the interaction."""
    counts = bundle.model.parameter_counts()
    if has_pair_table(bundle.spec):
        pairs = bundle.model.embedding.table_sizes()[-1]
        counts |= {"tables": counts["tables"] - pairs, "interaction": counts["interaction"] + pairs}
    return counts


def make_step(bundle: ModelBundle, phase: str | None = None, model: Callee | None = None) -> Step:
    """The step that is timed: prepared batch -> output (forward) or loss (train_step; the pooled rows where the
    model is embedding-only). `model` stands in for the bundle's, compiled for example.

    forward runs under no_grad, or inference_mode where the bundle says so. A train step is zero_grad, forward,
    binary cross-entropy with logits, backward, SGD. The embedding-only model has no loss: its backward starts from
    a gradient of ones, as for the sum of its output. Raises SpecError where a bundle built for forward is to train.
    """
    called: Callee = model or bundle.model
    if not is_training(phase or bundle.phase):
        return _forward_step(called, torch.inference_mode if bundle.inference_mode else torch.no_grad)
    if bundle.optimizer is None:
        raise SpecError("phase", phase, "build the model with phase = 'train_step' to train it")
    embedding_only = bundle.spec.variant == "embedding"
    return _embedding_train_step(bundle, called) if embedding_only else _train_step(bundle, called)


def refresh(step: Step) -> None:
    """Tell a step that learning rates have changed: a captured one holds them as constants."""
    renew = getattr(step, "refresh", None)
    if renew is not None:
        renew()


def _forward_step(model: Callee, without_grad: Callable[[], AbstractContextManager[Any]]) -> Step:
    def step(inputs: Prepared) -> Tensor:
        with without_grad():
            output: Tensor = model(inputs.dense, inputs.lookups)
        return output

    return step


def _train_step(bundle: ModelBundle, model: Callee) -> Step:
    loss_of = nn.BCEWithLogitsLoss()

    def step(inputs: Prepared) -> Tensor:
        zero_grad(bundle)
        logits = model(inputs.dense, inputs.lookups)
        with model.annotate("loss"):
            loss: Tensor = loss_of(logits.float(), inputs.labels)
        with model.annotate("backward"):
            loss.backward()  # type: ignore[no-untyped-call]
        _update(bundle, model)
        return loss.detach()

    return step


def _embedding_train_step(bundle: ModelBundle, model: Callee) -> Step:
    ones: dict[torch.Size, Tensor] = {}

    def step(inputs: Prepared) -> Tensor:
        zero_grad(bundle)
        output: Tensor = model(inputs.dense, inputs.lookups)
        if output.shape not in ones:
            ones[output.shape] = torch.ones_like(output)
        with model.annotate("backward"):
            output.backward(ones[output.shape])  # type: ignore[no-untyped-call]
        _update(bundle, model)
        return output.detach()

    return step


def zero_grad(bundle: ModelBundle) -> None:
    """Forget the gradients that the bundle's own optimizers read."""
    for optimizer in bundle.optimizers.values():
        optimizer.zero_grad(set_to_none=True)


def _update(bundle: ModelBundle, model: Callee) -> None:
    for name, optimizer in bundle.optimizers.items():
        with model.annotate(name):
            optimizer.step()
