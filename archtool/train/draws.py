"""Random numbers that belong to an example of a pass, whatever batch and process it is in.

Every example of every pass has a seed of 64 bits; what is drawn for it follows from that seed and the name of the draw
alone (SplitMix64, Steele, Lea & Flood 2014, as a hash of a counter), so that changes can be replayed one by one.
"""

import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from archtool.data.batches import Batch

GOLDEN = 0x9E3779B97F4A7C15
MASK = 0xFFFFFFFFFFFFFFFF


def example_seeds(seed: int, batch: "Batch") -> "NDArray[Any]":
    """One seed (B,) uint64 per example, from the run's seed, the pass and the position in the data."""
    return seeds_at(seed, _array(batch.passes), _array(batch.positions))


def seeds_at(seed: int, passes_B: "NDArray[Any]", positions_B: "NDArray[Any]") -> "NDArray[Any]":
    """The same for passes and positions given as uint64."""
    import numpy as np

    with np.errstate(over="ignore"):
        start = _mixed(np.asarray([seed & MASK], dtype=np.uint64))
        return _mixed(_mixed(start ^ passes_B) ^ positions_B)


def uniforms(seeds_B: "NDArray[Any]", what: str, count: int = 1) -> "Tensor":
    """Numbers (B, count) in [0, 1), float64, for the draw called ``what``."""
    import numpy as np
    import torch

    with np.errstate(over="ignore"):
        stream = _mixed(seeds_B ^ np.uint64(zlib.crc32(what.encode())))
        counters = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN)
        bits = _mixed(stream[:, None] + counters)
    return torch.from_numpy((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def integers(seeds_B: "NDArray[Any]", what: str, count: int, least: int, most: int) -> "Tensor":
    """Whole numbers (B, count) from ``least`` to ``most``."""
    drawn = uniforms(seeds_B, what, count) * (most - least + 1)
    return drawn.long() + least


def betas(seeds_B: "NDArray[Any]", what: str, alpha: float) -> "Tensor":
    """Numbers (B,) from Beta(alpha, alpha), float64."""
    import torch
    from scipy.special import betaincinv

    return torch.from_numpy(betaincinv(alpha, alpha, uniforms(seeds_B, what)[:, 0].numpy()))


def _mixed(x: "NDArray[Any]") -> "NDArray[Any]":
    """The finaliser of SplitMix64."""
    import numpy as np

    x = x + np.uint64(GOLDEN)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[Any] = x ^ (x >> np.uint64(31))
    return mixed


def _array(values: "Tensor | None") -> "NDArray[Any]":
    import numpy as np

    assert values is not None, "the batch does not say of which pass it is"
    return values.cpu().numpy().astype(np.uint64)
