"""Cross layers of DCN and DCN-V2. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class RankOne(nn.Module):
    """The product of a DCN layer: forward(x (B, n)) -> (x . w) (B, 1); the bias b (n,) is added by the layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Linear(width, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(width))

    def cross(self, start: Tensor, x: Tensor) -> Tensor:
        """x_0 (x . w) + b + x, all (B, n)."""
        crossed: Tensor = start * self.weight(x) + self.bias + x
        return crossed


class Hadamard(nn.Module):
    """A layer of DCN-V2, `product` being W x + b or U (V x) + b."""

    def __init__(self, product: nn.Module) -> None:
        super().__init__()
        self.product = product

    def cross(self, start: Tensor, x: Tensor) -> Tensor:
        """x_0 * (W x + b) + x, all (B, n)."""
        return torch.addcmul(x, start, self.product(x))


def cross_product(width: int, rank: int) -> Hadamard:
    """W (width, width), or with a rank above 0 V (rank, width) and U (width, rank); one bias (width,)."""
    if not rank:
        return Hadamard(nn.Linear(width, width))
    return Hadamard(nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width)))


class CrossNetwork(nn.Module):
    """Cross layers over all features side by side.

    forward(dense (B, w) or None, pooled (B, sum D)) -> x_L (B, n), n = w + sum D; with `keep_input` (B, 2n): x_0 too.
    """

    def __init__(self, layers: Sequence[RankOne | Hadamard], keep_input: bool = False) -> None:
        super().__init__()
        self.layers, self.keep_input = nn.ModuleList(layers), keep_input

    def forward(self, dense: Tensor | None, pooled: Tensor) -> Tensor:
        """See the class."""
        start = pooled if dense is None else torch.cat((dense, pooled), dim=1)
        x = start
        for layer in self.layers:
            x = layer.cross(start, x)  # type: ignore[operator]
        return torch.cat((start, x), dim=1) if self.keep_input else x


class DeepBesideCross(nn.Module):
    """The end of DCN: forward(x_0 and x_L (B, 2n), or x_L alone (B, n) without a deep network) -> logits (B, 1)."""

    def __init__(self, deep: nn.Sequential, last: nn.Linear) -> None:
        super().__init__()
        self.deep, self.last = deep, last

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        if not len(self.deep):
            logits: Tensor = self.last(features)
            return logits
        start, crossed = features.chunk(2, dim=1)
        joint: Tensor = self.last(torch.cat((crossed, self.deep(start)), dim=1))
        return joint
