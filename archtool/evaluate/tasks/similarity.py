"""Sentence similarity: correlation of embeddings' cosine with gold scores (the STS benchmark's measure)."""

from typing import TYPE_CHECKING, Any

from archtool.data.dataset import Pairs
from archtool.errors import InputError
from archtool.evaluate.loop import check_finite, outputs_of
from archtool.evaluate.metrics import Metrics
from archtool.evaluate.pooling import pool
from archtool.evaluate.registry import TASKS, Settings
from archtool.evaluate.statistics import pearson, spearman, spearman_bootstrap

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn


def run(module: "nn.Module", settings: Settings) -> Metrics:
    """Spearman and Pearson over the pairs; every distinct sentence is embedded once."""
    pairs = settings.batches.data.pairs
    if pairs is None or not settings.batches.data.spec.labelled:
        raise InputError("the data has no scored pairs; similarity needs them", "give labelled data")
    cosines_P = cosines(embed(module, settings), pairs)
    for side, what in ((cosines_P, "the model's similarities"), (pairs.scores_P, "the gold scores")):
        if (side == side[0]).all():
            hint = "give more pairs, or look for a collapsed model"
            raise InputError(f"{what} are all {side[0]:g}: no correlation is defined", hint)
    values = {
        "spearman": spearman(cosines_P, pairs.scores_P),
        "pearson": pearson(cosines_P, pairs.scores_P),
    }
    stderr = {}
    if settings.bootstrap > 1:
        resampled = spearman_bootstrap(cosines_P, pairs.scores_P, settings.bootstrap, settings.seed)
        stderr["spearman"] = resampled
    return Metrics(settings.name, values, len(cosines_P), stderr, TASKS["similarity"].directions)


def embed(module: "nn.Module", settings: Settings) -> "Tensor":
    """Embeddings (N, D) float32 of all examples, in the data's order."""
    import torch

    parts: list[Tensor] = []
    places: list[Tensor] = []
    for batch, outputs in outputs_of(module, settings, "embed"):
        mask_BT = batch.inputs.get("attention_mask")
        embeddings_BD = pool(outputs, mask_BT, settings.pooling)
        check_finite(embeddings_BD, "the embedding", batch)
        parts.append(embeddings_BD.cpu())
        places.append(batch.positions)
    out_ND = torch.cat(parts)
    return out_ND[torch.argsort(torch.cat(places))]


def cosines(embeddings_ND: "Tensor", pairs: Pairs) -> "NDArray[Any]":
    """Cosine similarity (P,) float64 of each pair."""
    import torch
    import torch.nn.functional as F

    rows_P2 = torch.from_numpy(pairs.rows_P2)
    first_PD, second_PD = (embeddings_ND[rows_P2[:, side]].double() for side in (0, 1))
    return F.cosine_similarity(first_PD, second_PD, dim=-1).numpy()
