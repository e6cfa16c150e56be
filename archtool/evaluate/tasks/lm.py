"""Language modelling: mean cross entropy in nats per scored token, and perplexity.

Which tokens are scored, with which context, is decided by the data (windows, stride, documents). The
standard error treats tokens as independent, so it is a lower bound.
"""

import math
from typing import TYPE_CHECKING

from archtool.data.dataset import IGNORE
from archtool.errors import InputError
from archtool.evaluate.loop import check_finite, check_labels, output, outputs_of, target
from archtool.evaluate.metrics import Metrics
from archtool.evaluate.registry import TASKS, Settings

if TYPE_CHECKING:
    from torch import nn


def run(module: "nn.Module", settings: Settings) -> Metrics:
    """Loss (nats/token), perplexity, and the number of scored tokens."""
    import torch
    import torch.nn.functional as F

    total, squares, tokens = 0.0, 0.0, 0
    for batch, outputs in outputs_of(module, settings, "evaluate lm"):
        logits_BTV = output(outputs, "logits", "lm")
        next_BT = target(batch, "next_ids", "lm")
        if logits_BTV.shape[:-1] != next_BT.shape:
            shape = tuple(logits_BTV.shape)
            raise InputError(f"logits {shape} where lm needs one per token", "the model is no language model")
        check_labels(next_BT, logits_BTV.shape[-1])
        scored_BT = next_BT != IGNORE
        losses_S = F.cross_entropy(logits_BTV[scored_BT].float(), next_BT[scored_BT], reduction="none")
        losses_BT = torch.zeros_like(next_BT, dtype=torch.float32).masked_scatter(scored_BT, losses_S)
        check_finite(losses_BT, "the loss", batch)
        losses_S = losses_S.double()
        total += float(losses_S.sum())
        squares += float((losses_S**2).sum())
        tokens += len(losses_S)
    return _summary(total, squares, tokens, settings)


def _summary(total: float, squares: float, tokens: int, settings: Settings) -> Metrics:
    if tokens == 0:
        raise InputError("no token of the data is scored", "give documents of two tokens or more")
    loss = total / tokens
    perplexity = math.exp(loss) if loss < 700 else math.inf
    spread = max(squares - tokens * loss**2, 0.0) / (tokens - 1) if tokens > 1 else math.nan
    error = math.sqrt(spread / tokens)
    values = {"loss": loss, "perplexity": perplexity, "tokens": float(tokens)}
    stderr = {"loss": error, "perplexity": perplexity * error}
    return Metrics("lm", values, len(settings.batches.data), stderr, TASKS["lm"].directions)
