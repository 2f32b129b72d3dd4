"""Five laws of noise for simulation: what a benchmark's blocks do on real machines. Seeded; unchanged code throughout.

Every law gives y = ln(mean step time) of shape (cases, epochs, pairs, 2), in the order in which blocks ran: side 0 and
side 1 of a pair are adjacent slots of one time line, and which of the two is base is for the caller to draw.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Blocks = NDArray[np.float64]
Shape = tuple[int, int, int]
Law = Callable[[np.random.Generator, Shape], Blocks]

PROCESS_SD = 0.01
BLOCK_SD = 0.03


def _processes(chance: np.random.Generator, shape: Shape, sd: float = PROCESS_SD) -> Blocks:
    """One effect per process: memory layout and the like stay for all blocks of an epoch."""
    cases, epochs, _ = shape
    return chance.normal(0, sd, (cases, epochs, 1, 2))


def _slots(chance: np.random.Generator, shape: Shape, sd: float = BLOCK_SD) -> Blocks:
    return chance.normal(0, sd, (*shape, 2))


def iid(chance: np.random.Generator, shape: Shape) -> Blocks:
    """Independent blocks around processes that differ by 1 %."""
    return _processes(chance, shape) + _slots(chance, shape)


def autocorrelated(chance: np.random.Generator, shape: Shape) -> Blocks:
    """A drift of 2 % that each block inherits from the one before (AR(1), 0.97)."""
    cases, epochs, pairs = shape
    keep = 0.97
    steps = chance.normal(0, 0.02 * np.sqrt(1 - keep**2), (cases, epochs, 2 * pairs))
    steps[:, :, 0] /= np.sqrt(1 - keep**2)
    for slot in range(1, 2 * pairs):
        steps[:, :, slot] += keep * steps[:, :, slot - 1]
    return iid(chance, shape) + steps.reshape(cases, epochs, pairs, 2)


def bursts(chance: np.random.Generator, shape: Shape) -> Blocks:
    """5 % of the blocks take 10 to 50 % longer."""
    size = (*shape, 2)
    longer: Blocks = np.log1p(chance.uniform(0.1, 0.5, size)) * (chance.random(size) < 0.05)
    return iid(chance, shape) + longer


def bimodal(chance: np.random.Generator, shape: Shape) -> Blocks:
    """One process in five is in a mode that is 8 % slower."""
    cases, epochs, _ = shape
    slower: Blocks = np.log1p(0.08) * (chance.random((cases, epochs, 1, 2)) < 0.2)
    return iid(chance, shape) + slower


def heteroscedastic(chance: np.random.Generator, shape: Shape) -> Blocks:
    """Quiet epochs and loud ones: all noise scaled by 0.3 to 3, drawn per epoch."""
    cases, epochs, _ = shape
    scale = np.exp(chance.uniform(np.log(0.3), np.log(3), (cases, epochs, 1, 1)))
    return scale * iid(chance, shape)


LAWS: dict[str, Law] = {
    "iid": iid,
    "autocorrelated": autocorrelated,
    "bursts": bursts,
    "bimodal": bimodal,
    "heteroscedastic": heteroscedastic,
}


def differences(chance: np.random.Generator, blocks: Blocks) -> NDArray[np.float64]:
    """One difference per case and epoch: sides drawn per epoch, order inside the pairs by the law, median of pairs."""
    cases, epochs = blocks.shape[:2]
    sign = chance.choice(np.array([-1.0, 1.0]), (cases, epochs))
    found: NDArray[np.float64] = sign * np.median(blocks[..., 1] - blocks[..., 0], axis=2)
    return found
