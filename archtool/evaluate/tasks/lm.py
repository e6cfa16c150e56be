"""Language modelling: mean cross entropy in nats per scored token, and perplexity.

Which tokens are scored, with which context, is decided by the data (windows, stride, documents). The
standard error treats tokens as independent, so it is a lower bound.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from archtool.data.batches import Batch
from archtool.data.dataset import IGNORE
from archtool.errors import InputError
from archtool.evaluate.loop import check_finite, check_labels, output, outputs_of, target
from archtool.evaluate.metrics import Metrics
from archtool.evaluate.registry import TASKS, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn


class TokenLosses:
    """Sums over batches of the cross entropy of scored tokens; ``task`` is what messages call it."""

    def __init__(self, task: str) -> None:
        self.task, self.total, self.squares, self.tokens = task, 0.0, 0.0, 0

    def add(self, batch: Batch, outputs: "Mapping[str, Tensor]") -> None:
        """One more batch."""
        import torch
        import torch.nn.functional as F

        logits_BTV = output(outputs, "logits", self.task)
        next_BT = target(batch, "next_ids", self.task)
        if logits_BTV.shape[:-1] != next_BT.shape:
            shape = tuple(logits_BTV.shape)
            raise InputError(f"logits {shape} where {self.task} needs one per token", "the model is no language model")
        check_labels(next_BT, logits_BTV.shape[-1])
        scored_BT = next_BT != IGNORE
        losses_S = F.cross_entropy(logits_BTV[scored_BT].float(), next_BT[scored_BT], reduction="none")
        losses_BT = torch.zeros_like(next_BT, dtype=torch.float32).masked_scatter(scored_BT, losses_S)
        check_finite(losses_BT, "the loss", batch)
        losses_S = losses_S.double()
        self.total += float(losses_S.sum())
        self.squares += float((losses_S**2).sum())
        self.tokens += len(losses_S)

    @property
    def mean(self) -> float:
        """Nats per token; `InputError` where no token is scored."""
        if self.tokens == 0:
            raise InputError("no token of the data is scored", "give documents of two tokens or more")
        return self.total / self.tokens

    @property
    def stderr(self) -> float:
        """Standard error of the mean."""
        spread = max(self.squares - self.tokens * self.mean**2, 0.0) / max(self.tokens - 1, 1)
        return math.sqrt(spread / self.tokens) if self.tokens > 1 else math.nan


def run(module: "nn.Module", settings: Settings) -> Metrics:
    """Loss (nats/token), perplexity, and the number of scored tokens."""
    losses = TokenLosses("lm")
    for batch, outputs in outputs_of(module, settings, "evaluate lm"):
        losses.add(batch, outputs)
    perplexity = math.exp(losses.mean) if losses.mean < 700 else math.inf
    values = {"loss": losses.mean, "perplexity": perplexity, "tokens": float(losses.tokens)}
    stderr = {"loss": losses.stderr, "perplexity": perplexity * losses.stderr}
    return Metrics("lm", values, len(settings.batches.data), stderr, TASKS["lm"].directions)
