"""Agreement with a parent, without labels.

What is compared follows from what both give: logits (mean KL(parent || model) in nats and the share of equal
top-1, per example, token or cell of a map), else a forecast (MSE, MAE between the two), else embeddings (mean
cosine, and Spearman between the two models' pairwise similarities, left out where it is undefined).
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from archtool.data.batches import Batch
from archtool.data.dataset import Pairs
from archtool.data.positions import by_position, counted_positions
from archtool.errors import InputError
from archtool.evaluate.loop import check_finite, outputs_of
from archtool.evaluate.metrics import Metrics
from archtool.evaluate.pooling import pool
from archtool.evaluate.registry import TASKS, Settings
from archtool.evaluate.statistics import mean_stderr, proportion_stderr, spearman
from archtool.evaluate.tasks.forecast import difference
from archtool.evaluate.tasks.similarity import cosines

if TYPE_CHECKING:
    from torch import Tensor, nn


def run(module: "nn.Module", settings: Settings) -> Metrics:
    """Compare two models on the same batches."""
    parent = settings.parent
    if parent is None:
        raise InputError("agreement needs a parent", "name the model to compare with")
    kind = ""
    rows: list[tuple[Tensor, Tensor]] = []
    places: list[Tensor] = []
    for batch, outputs in outputs_of(module, settings, "evaluate agreement"):
        of_parent = parent(**batch.inputs)
        kind = kind or _kind(outputs, of_parent, settings)
        rows.append(_COMPARE[kind](outputs, of_parent, batch, settings))
        places.append(batch.positions)
    import torch

    first, second = (torch.cat([row[side] for row in rows]) for side in (0, 1))
    values, stderr, samples = _SUMMARISE[kind](first, second, torch.cat(places), settings)
    directions = {name: TASKS["agreement"].directions[name] for name in values}
    return Metrics("agreement", values, samples, stderr, directions)


def _kind(ours: "Mapping[str, Tensor]", theirs: "Mapping[str, Tensor]", settings: Settings) -> str:
    for name in ("logits", "forecast"):
        if name in ours and name in theirs:
            return name
    needed = "pooled" if settings.pooling.mode == "pooled" else "hidden"
    if needed in ours and needed in theirs:
        return "embeddings"
    what = f"the model gives {', '.join(ours)}, the parent {', '.join(theirs)}"
    raise InputError(what, f"both need logits, forecast or {needed}")


def _logits(
    ours: "Mapping[str, Tensor]", theirs: "Mapping[str, Tensor]", batch: Batch, settings: Settings
) -> "tuple[Tensor, Tensor]":
    """KL and top-1 equality at every position that counts."""
    import torch

    if ours["logits"].shape != theirs["logits"].shape:
        shapes = f"{tuple(ours['logits'].shape)} and {tuple(theirs['logits'].shape)}"
        raise InputError(f"logits of the model and its parent differ in shape: {shapes}", "compare like with like")
    mine, wanted = by_position(ours["logits"]), by_position(theirs["logits"])
    counts = counted_positions(batch, wanted)
    log_q, log_p = (torch.log_softmax(side.double(), -1) for side in (mine, wanted))
    kl = torch.where(counts, (log_p.exp() * (log_p - log_q)).sum(-1), 0.0)
    check_finite(kl, "the divergence from the parent", batch)
    same = log_q.argmax(-1) == log_p.argmax(-1)
    return kl[counts].cpu(), same[counts].cpu()


def _forecasts(
    ours: "Mapping[str, Tensor]", theirs: "Mapping[str, Tensor]", batch: Batch, settings: Settings
) -> "tuple[Tensor, Tensor]":
    error_BTV = difference(ours["forecast"], theirs["forecast"])
    check_finite(error_BTV, "the difference from the parent", batch)
    return (error_BTV**2).mean((1, 2)).cpu(), error_BTV.abs().mean((1, 2)).cpu()


def _embeddings(
    ours: "Mapping[str, Tensor]", theirs: "Mapping[str, Tensor]", batch: Batch, settings: Settings
) -> "tuple[Tensor, Tensor]":
    mask_BT = batch.inputs.get("attention_mask")
    pooled = [pool(side, mask_BT, settings.pooling) for side in (ours, theirs)]
    for embeddings_BD in pooled:
        check_finite(embeddings_BD, "the embedding", batch)
    return pooled[0].cpu(), pooled[1].cpu()


Summary = tuple[dict[str, float], dict[str, float], int]


def _sum_logits(kl: "Tensor", same: "Tensor", places: "Tensor", settings: Settings) -> Summary:
    share = float(same.double().mean())
    values = {"kl": float(kl.mean()), "top1_match": share}
    stderr = {"kl": mean_stderr(kl.numpy()), "top1_match": proportion_stderr(share, len(same))}
    return values, stderr, len(places)


def _sum_forecasts(squared: "Tensor", absolute: "Tensor", places: "Tensor", settings: Settings) -> Summary:
    return {"mse": float(squared.mean()), "mae": float(absolute.mean())}, {}, len(places)


def _sum_embeddings(ours: "Tensor", theirs: "Tensor", places: "Tensor", settings: Settings) -> Summary:
    import torch

    order = torch.argsort(places)
    ours_ND, theirs_ND = ours[order], theirs[order]
    pairs = settings.batches.data.pairs or draw_pairs(len(places), settings.seed)
    rank = spearman(cosines(ours_ND, pairs), cosines(theirs_ND, pairs))
    values = {} if math.isnan(rank) else {"spearman": rank}
    if ours_ND.shape != theirs_ND.shape:  # widths differ: only similarities can be compared
        return values, {}, len(places)
    each = torch.nn.functional.cosine_similarity(ours_ND.double(), theirs_ND.double(), dim=-1)
    return {"cosine": float(each.mean()), **values}, {"cosine": mean_stderr(each.numpy())}, len(places)


def draw_pairs(count: int, seed: int) -> Pairs:
    """Each example with its successor in a seeded circle: ``count`` pairs, scores zero."""
    import numpy as np

    circle = np.random.default_rng(seed).permutation(count)
    return Pairs(np.stack([circle, np.roll(circle, -1)], axis=1), np.zeros(count))


_COMPARE: Mapping[str, Any] = {"logits": _logits, "forecast": _forecasts, "embeddings": _embeddings}
_SUMMARISE: Mapping[str, Any] = {
    "logits": _sum_logits,
    "forecast": _sum_forecasts,
    "embeddings": _sum_embeddings,
}
