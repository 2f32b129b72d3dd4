"""A synthetic click log whose truth is known: labels drawn from a logit with pairwise interactions of stated strength.

A sample is one value of each of N sparse features (a row of the feature's own table, by its index law) and k dense
features, uniform in [0, 1). With t = sqrt(12) (x - 1/2) for dense features, the logit of the truth is

    bias + sum_a f_a(x_a) + sum over active pairs (a, b) of s_ab <z_a(x_a), z_b(x_b)>

over all F = N + k features. f and z are centred under the feature's law, so that every term is uncorrelated with every
other and the logit's variance is exactly the sum of theirs: `pair_share` of it is pairwise, spread evenly over the
active pairs, the rest is first-order, spread evenly over the features. `control` has no active pair and all of the
variance in its first-order terms. z_a has `rank` coordinates of unit variance; a dense feature's is t times a fixed
direction. Signs of s are random, so no inner product of single embeddings of width `rank` is the truth.

Everything is a function of (spec, seed, stream, batch number, batch size). No torch.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from workloads import indices
from workloads.batch import Batch, make_batch
from workloads.spec import ModelSpec, SpecError, TableSpec, unknown

Floats = NDArray[np.float64]
Kind = Literal["planted", "control"]
Stream = Literal["train", "validation", "test"]
LAWS = ("uniform", "zipf")

STREAM_BATCHES = 2**30
"""Batches of one stream: streams are ranges of batch numbers that far apart, so that they never share a sample."""
_FIRST_BATCH: dict[Stream, int] = {"train": 0, "validation": STREAM_BATCHES, "test": 2 * STREAM_BATCHES}
# Streams of random numbers beside those of workloads/batch.py, whose places they take.
_TRUTH, _CLICKS = 103, 104
_NO_TABLE = 2**32 - 1

_RANGES: tuple[tuple[str, float, float], ...] = (
    ("num_features", 1, 1000),
    ("num_dense", 0, 1000),
    ("num_rows", 2, 10_000_000),
    ("exponent", 0, 8),
    ("rank", 1, 64),
    ("pair_share", 0, 1),
    ("active_share", 0, 1),
    ("logit_std", 0, 10),
    ("bias", -10, 10),
)


class ClickLogSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The log: its features and its truth. `active_share` is the share of all F(F-1)/2 pairs that interact.

    `indices` (uniform or zipf) and `exponent` are the index law of every feature's table. Raises SpecError.
    """

    kind: Kind = "planted"
    num_features: int
    num_dense: int = 0
    num_rows: int
    indices: str = "zipf"
    exponent: float = 1.05
    rank: int = 3
    pair_share: float = 0.5
    active_share: float = 0.5
    logit_std: float = 1.5
    bias: float = -1.0

    def __post_init__(self) -> None:
        for field, low, high in _RANGES:
            value = getattr(self, field)
            if not low <= value <= high:
                raise SpecError(field, value, f"a number from {low} to {high}")
        if self.num_rows <= self.rank:
            raise SpecError("rank", self.rank, f"less than num_rows ({self.num_rows}), so that latents can be centred")
        if self.num_features + self.num_dense < 2:
            raise SpecError("num_features", self.num_features, "at least two features, sparse and dense together")
        if self.indices not in LAWS:
            raise unknown("indices", self.indices, list(LAWS))

    def tables(self, dim: int) -> tuple[TableSpec, ...]:
        """The tables of a model of this log, one a feature."""
        return tuple(
            TableSpec(name=f"t{i}", num_rows=self.num_rows, dim=dim, indices=self.indices, exponent=self.exponent)
            for i in range(self.num_features)
        )

    @property
    def num_active(self) -> int:
        """Pairs that interact: at least one in a planted log that has a pairwise share, none in the control."""
        if self.kind == "control" or self.pair_share == 0:
            return 0
        return max(1, round(self.active_share * math.comb(self.num_features + self.num_dense, 2)))


class Truth(NamedTuple):
    """The coefficients of the logit.

    first (N, E): f of each value; first_dense (k,): f is that times t. latent (N, E, r); latent_dense (k, r).
    strength (F, F): s_ab above the diagonal, zero elsewhere; sparse features come first.
    """

    first: Floats
    first_dense: Floats
    latent: Floats
    latent_dense: Floats
    strength: Floats


class Clicks(NamedTuple):
    """A batch, the logits (B,) of the truth that its labels were drawn from, and their first-order terms (B,)."""

    batch: Batch
    logits: Floats
    first_order: Floats


class ClickLog:
    """The log of one spec and seed: a truth, and samples as many as one likes."""

    def __init__(self, spec: ClickLogSpec, seed: int) -> None:
        self.spec, self.seed = spec, seed
        # Only tables and dense features of this model are read.
        self._inputs = ModelSpec(
            name="click_log", variant="mlp", tables=spec.tables(1), num_dense=spec.num_dense, top_mlp=(1,)
        )
        self.truth = make_truth(spec, seed)

    def clicks(self, stream: Stream, number: int, batch_size: int) -> Clicks:
        """Batch `number` of a stream. Raises SpecError where the stream is at its end."""
        if not 0 <= number < STREAM_BATCHES:
            raise SpecError("batch number", number, f"a whole number below {STREAM_BATCHES}")
        inputs = make_batch(self._inputs, batch_size, self.seed, _FIRST_BATCH[stream] + number, num_threads=1)
        first_order, pairs = self._terms(inputs)
        logits = self.spec.bias + first_order + pairs
        draw = np.random.Generator(np.random.SFC64([self.seed, _NO_TABLE, inputs.number, _CLICKS]))
        clicked = draw.random(batch_size) < 1.0 / (1.0 + np.exp(-logits))
        batch = Batch(
            dense=inputs.dense,
            indices=inputs.indices,
            offsets=inputs.offsets,
            labels=clicked.astype(np.float32),
            weights=None,
            seed=self.seed,
            number=inputs.number,
        )
        return Clicks(batch, logits, first_order)

    def _terms(self, batch: Batch) -> tuple[Floats, Floats]:
        """Sums of first-order and of pairwise terms, (B,) each."""
        truth = self.truth
        values = batch.indices.reshape(self.spec.num_features, -1)
        feature = np.arange(self.spec.num_features)[:, None]
        t = math.sqrt(12.0) * (batch.dense.astype(np.float64) - 0.5)
        first = truth.first[feature, values].sum(0) + (t * truth.first_dense).sum(1)
        sparse = truth.latent[feature, values].transpose(1, 0, 2)
        latents = np.concatenate([sparse, t[:, :, None] * truth.latent_dense], axis=1)
        return first, (np.matmul(truth.strength, latents) * latents).sum((1, 2))


def make_truth(spec: ClickLogSpec, seed: int) -> Truth:
    """The truth of `seed`: terms are scaled by their exact variances under the index law."""
    draw = np.random.Generator(np.random.SFC64([seed, _NO_TABLE, 0, _TRUTH]))
    n, k, r = spec.num_features, spec.num_dense, spec.rank
    chances = row_probabilities(spec, seed)
    first = np.stack([whitened(draw.standard_normal((spec.num_rows, 1)), p)[:, 0] for p in chances])
    latent = np.stack([whitened(draw.standard_normal((spec.num_rows, r)), p) for p in chances])
    first_dense = draw.choice([-1.0, 1.0], k)
    directions = draw.standard_normal((k, r))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    pair_variance = spec.pair_share * spec.logit_std**2 if spec.num_active else 0.0
    scale = math.sqrt((spec.logit_std**2 - pair_variance) / (n + k))
    strength = _strengths(draw, spec, directions, pair_variance)
    return Truth(scale * first, scale * first_dense, latent, directions, strength)


def _strengths(draw: np.random.Generator, spec: ClickLogSpec, directions: Floats, variance: float) -> Floats:
    """(F, F): random signs on random pairs, all of which have the same share of `variance`."""
    f = spec.num_features + spec.num_dense
    strength = np.zeros((f, f))
    pairs = list(itertools.combinations(range(f), 2))
    signs = draw.choice([-1.0, 1.0], len(pairs))
    order = draw.permutation(len(pairs))[: spec.num_active]
    for place in order:
        a, b = pairs[place]
        strength[a, b] = signs[place] * math.sqrt(variance / order.size / _product_variance(spec, directions, a, b))
    return strength


def _product_variance(spec: ClickLogSpec, directions: Floats, a: int, b: int) -> float:
    """Variance of <z_a, z_b>: r of two sparse features, 1 of a sparse and a dense one, <d_a, d_b>^2 of two dense."""
    n = spec.num_features
    if b < n:
        return float(spec.rank)
    return 1.0 if a < n else float(directions[a - n] @ directions[b - n]) ** 2


def row_probabilities(spec: ClickLogSpec, seed: int) -> list[Floats]:
    """Probability (E,) of each row of each feature's table, its law's ranks scattered as in the batches of `seed`."""
    found = []
    for number, table in enumerate(spec.tables(1)):
        rows = np.arange(table.num_rows)
        found.append(indices.law_probabilities(table)[indices.ranks_of(table, rows, (seed, number))])
    return found


def whitened(values: Floats, chances: Floats) -> Floats:
    """`values` (E, r) shifted and mixed to mean 0 and covariance I under `chances` (E,)."""
    # einsum adds up in one order whatever the number of threads, which a BLAS need not.
    centred = values - np.einsum("e,er->r", chances, values)
    covariance = np.einsum("e,er,es->rs", chances, centred, centred)
    mixed: Floats = np.linalg.solve(np.linalg.cholesky(covariance), centred.T).T
    return mixed
