"""Mask gradients over calibration data: one forward and one backward pass per batch for all units at once.

A sample's loss depends on its own row of every mask alone, so the gradient of the summed loss has each sample's
gradient in its row (no vmap). Losses that draw something may be drawn several times (``draws``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from archtool.curvature.losses import Embed, LossName, PerSample, sample_loss
from archtool.curvature.masks import masked, ones
from archtool.curvature.moments import Moments, added, moments
from archtool.data.batches import Batch, Batches
from archtool.data.dataset import Data, calibration
from archtool.errors import InputError
from archtool.progress import SILENT, Progress

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from archtool.model.build import Model


@dataclass(frozen=True)
class Collection:
    """What to collect.

    Attributes:
        samples: calibration examples, drawn with ``seed``.
        loss: see `archtool.curvature.losses`.
        draws: passes over the examples, each with other random labels or projections.
        batch_size: examples per pass; decides the batch-squared variant and what ``contrast`` compares with.
        cross: whether cross-products of the units of each axis are kept.
        seed: of everything drawn.
    """

    samples: int = 256
    loss: LossName = "auto"
    draws: int = 1
    batch_size: int = 32
    cross: bool = False
    seed: int = 0


def collect(
    model: Model, data: Data, names: Sequence[str], wanted: Collection, *,
    embed: Embed | None = None, device: str = "cpu", folder: Path | None = None, progress: Progress = SILENT,
) -> dict[str, Moments]:  # fmt: skip
    """Axis, block or layer → the moments of its mask gradients; axes that a tensor ties have those of their sum.

    Args:
        model: put into eval mode; its parameters take no gradients afterwards.
        data: what is drawn from; labels are needed by the loss ``task`` alone.
        embed: how outputs become embeddings, for models that give no logits.
        folder: where statistics are kept and looked for (None: nowhere).

    Raises:
        InputError: a loss that the outputs do not have, or gradients that are not finite.
    """
    from archtool.curvature.cache import key_of, read, write

    chosen = calibration(data, wanted.samples, wanted.seed)
    key = key_of(model, chosen.digest(), {**asdict(wanted), "names": list(names)}) if folder else ""
    known = read(folder, key) if folder else None
    if known is not None:
        return known
    model.eval().requires_grad_(False)
    found = _passes(model, chosen, names, wanted, embed, device, progress)
    if folder:
        write(folder, key, found)
    return found


def _passes(
    model: Model, data: Data, names: Sequence[str], wanted: Collection, embed: Embed | None, device: str,
    progress: Progress,
) -> dict[str, Moments]:  # fmt: skip
    import torch

    found: dict[str, Moments] = {}
    batches = Batches(data, wanted.batch_size, order="length", device=device)
    with progress.phase("mask gradients", wanted.draws * len(data)) as phase:
        for draw in range(wanted.draws):
            generator = torch.Generator().manual_seed(wanted.seed + 7919 * draw)
            for batch in batches:
                gradients, terms = gradients_of(model, batch, names, wanted.loss, generator, embed)
                for name, g_BU in gradients.items():
                    made = moments(g_BU, terms, batch.positions, wanted.cross)
                    found[name] = added(found.get(name), made)
                phase.advance(len(batch.positions))
    for name, made in found.items():
        if not bool(torch.isfinite(made.squares_SU).all()):
            raise InputError(f"mask gradients of {name} are not finite", "look for NaN or overflow in the weights")
    return found


def gradients_of(
    model: Model, batch: Batch, names: Sequence[str], loss: LossName, generator: torch.Generator,
    embed: Embed | None = None,
) -> tuple[Mapping[str, Tensor], Tensor]:  # fmt: skip
    """Name → per-sample mask gradients (B, U) of one batch, and the terms (B,) of each sample's loss."""
    import torch

    masks, dtype = ones(model, names, len(batch.positions)), next(model.parameters()).dtype
    inputs = {name: x.to(dtype) if x.is_floating_point() else x for name, x in batch.inputs.items()}
    with torch.enable_grad(), masked(model, masks):
        outputs = model(**inputs)
        each: PerSample = sample_loss(loss, outputs, batch, embed)(outputs, batch, generator)
    found = torch.autograd.grad(each.losses.sum(), list(masks.values()), allow_unused=True)
    rows = zip(masks.items(), found, strict=True)
    return {name: torch.zeros_like(m) if g is None else g for (name, m), g in rows}, each.terms
