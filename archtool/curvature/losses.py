"""Losses per sample whose mask gradients make a Fisher matrix, with labels and without.

A distillation loss has zero gradient at the dense model, so that it tells nothing about its own curvature. What does:

- ``task``: the negative log-likelihood of the labels (empirical Fisher), or ½ squared error of a forecast;
- ``sampled``: of labels drawn from the model's own distribution, whose squared gradients are an unbiased estimate of
  the true Fisher, which is the Hessian of KL(parent || model) at the parent (Kunstner et al. 2019);
- ``projected``: ``<y_i, v_i>`` with v_i ~ N(0, I) for outputs without a distribution, unbiased for the Gauss-Newton
  diagonal of ½‖y - y_parent‖² (1 - cosine, for normalised embeddings);
- ``contrast``: InfoNCE of each embedding against the dense embeddings of its batch, temperature 0.05.

Legend: `B` batch, `T` positions, `N` classes, `D` width of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from archtool.data.batches import Batch
from archtool.data.positions import by_position, counted_positions
from archtool.errors import InputError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LossName = Literal["auto", "task", "sampled", "projected", "contrast"]
TEMPERATURE = 0.05

Outputs = Mapping[str, "Tensor"]
Embed = Callable[[Outputs, "Tensor | None"], "Tensor"]
"""A model's outputs and the padding mask → one vector per sample."""


class PerSample(NamedTuple):
    """Losses (B,) that depend on nothing but their own sample, and over how many terms each is a sum (B,)."""

    losses: Tensor
    terms: Tensor


SampleLoss = Callable[[Outputs, Batch, "torch.Generator"], PerSample]


def sample_loss(name: LossName, outputs: Outputs, batch: Batch, embed: Embed | None = None) -> SampleLoss:
    """The loss of a name for a model with these outputs; ``auto``: sampled for logits, else projected.

    Args:
        embed: how outputs become embeddings; for models without logits and forecast.
    """
    if name not in get_args(LossName):
        raise UsageError(f"no curvature loss {name!r}", f"use one of {', '.join(get_args(LossName))}")
    chosen = ("sampled" if "logits" in outputs else "projected") if name == "auto" else name
    if chosen in ("task", "sampled") and "logits" in outputs:
        return task_loss if chosen == "task" else sampled_loss
    if chosen == "task" and "forecast" in outputs and "future" in batch.targets:
        return forecast_loss
    if chosen in ("task", "sampled"):
        have = ", ".join(outputs)
        raise InputError(f"the model gives {have}: no {chosen} loss", "use projected, or contrast for embeddings")
    read = embed if embed and "forecast" not in outputs and "logits" not in outputs else vectors
    return projected_loss(read) if chosen == "projected" else contrast_loss(read)


def task_loss(outputs: Outputs, batch: Batch, generator: torch.Generator) -> PerSample:
    """``-log p(label)``, summed over the scored positions of each sample."""
    name = "next_ids" if "next_ids" in batch.targets else "labels"
    if name not in batch.targets:
        raise InputError("the data has no labels; the task's loss needs them", "use the loss `sampled`")
    return _likelihood(outputs["logits"], batch, lambda _: batch.targets[name])


def sampled_loss(outputs: Outputs, batch: Batch, generator: torch.Generator) -> PerSample:
    """``-log p(y)`` of labels drawn from the model's own distribution, one at each position that counts."""
    return _likelihood(outputs["logits"], batch, lambda logits: drawn(logits, generator))


def drawn(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Class ids (...) drawn from softmax(logits (..., N)), on the CPU so that devices agree."""
    import torch

    rows = torch.softmax(logits.detach().double().cpu(), -1).flatten(0, -2)
    return torch.multinomial(rows, 1, generator=generator).reshape(logits.shape[:-1]).to(logits.device)


def _likelihood(logits: Tensor, batch: Batch, labels: Callable[[Tensor], Tensor]) -> PerSample:
    import torch

    rows = by_position(logits)
    counts = counted_positions(batch, rows)
    chosen = labels(rows).clamp_min(0)[..., None]
    each = -torch.log_softmax(rows, -1).gather(-1, chosen).squeeze(-1)
    per_sample = torch.where(counts, each, 0.0).flatten(1) if each.dim() > 1 else each[:, None]
    return PerSample(per_sample.sum(1), counts.reshape(len(counts), -1).sum(1))


def forecast_loss(outputs: Outputs, batch: Batch, generator: torch.Generator) -> PerSample:
    """½ squared error, summed over horizon and variables: minus the log-likelihood under unit variance."""
    error = outputs["forecast"] - batch.targets["future"]
    return PerSample(0.5 * error.square().flatten(1).sum(1), _one_term(error))


def vectors(outputs: Outputs, mask_BT: Tensor | None = None) -> Tensor:
    """The forecast, the logits or the first output, flat: (B, D)."""
    name = next((n for n in ("forecast", "logits") if n in outputs), next(iter(outputs)))
    return outputs[name].flatten(1)


def projected_loss(embed: Embed) -> SampleLoss:
    """``<y_i, v_i>``: its squared gradients estimate those of ½‖Δy‖²."""

    def loss(outputs: Outputs, batch: Batch, generator: torch.Generator) -> PerSample:
        import torch

        y_BD = embed(outputs, batch.inputs.get("attention_mask"))
        v_BD = torch.randn(y_BD.shape, generator=generator, dtype=torch.float64).to(y_BD)
        return PerSample((y_BD * v_BD).sum(-1), _one_term(y_BD))

    return loss


def contrast_loss(embed: Embed, temperature: float = TEMPERATURE) -> SampleLoss:
    """InfoNCE against the dense (detached) embeddings of the batch, whose own one is the right answer."""

    def loss(outputs: Outputs, batch: Batch, generator: torch.Generator) -> PerSample:
        import torch

        e_BD = embed(outputs, batch.inputs.get("attention_mask"))
        scores_BB = e_BD @ e_BD.detach().T / temperature
        return PerSample(-torch.log_softmax(scores_BB, -1).diagonal(), _one_term(e_BD))

    return loss


def _one_term(values: Tensor) -> Tensor:
    return values.new_ones(len(values))
