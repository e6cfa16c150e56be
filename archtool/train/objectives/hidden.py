"""Distillation of hidden states through learned linear projectors (Romero et al. 2015; Jiao et al. 2020, TinyBERT).

Legend: `B` batch, `T` tokens, `D` the model's width, `E` the teacher's.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from archtool.data.batches import Batch
from archtool.errors import InputError
from archtool.ir.architecture import Architecture
from archtool.model.capture import streams
from archtool.train.objectives.layers import LayerMap, counted_tokens, matched
from archtool.train.objectives.teacher import Teacher

if TYPE_CHECKING:
    from torch import Tensor, nn


class HiddenStates:
    """Mean squared distance of projected hidden states from the teacher's, relative to the teacher's mean square.

    Where the two have other numbers of tokens (patches of another size, a class token), their means over the tokens
    are compared.

    Args:
        teacher: whose states are wanted.
        ours / theirs: the two architectures.
        layers: which are matched: the ``last`` of both, or all of ours ``even``-ly with the teacher's.
        seed: of the projectors' first values.
    """

    def __init__(
        self, teacher: Teacher, ours: Architecture, theirs: Architecture, layers: LayerMap = "last", seed: int = 0
    ) -> None:
        pairs = matched(streams(ours), streams(theirs), layers, "hidden states")
        self.teacher, self.pairs = teacher, tuple((mine.key, wanted.key) for mine, wanted in pairs)
        self.places = tuple(mine for mine, _ in self.pairs)
        widths = [(mine.leaving.size(ours.size), wanted.leaving.size(theirs.size)) for mine, wanted in pairs]
        self.trained = _projectors(widths, seed)
        self.identity = [teacher.identity, self.pairs]
        teacher.look_at(wanted for _, wanted in self.pairs)

    def __call__(self, outputs: "Mapping[str, Tensor]", batch: Batch) -> "Tensor":
        """The mean over tokens, channels and matched layers."""
        import torch

        wanted = self.teacher.outputs(batch)
        parts = [
            relative_distance(project(outputs[mine]), wanted[theirs].float(), batch)
            for project, (mine, theirs) in zip(self.trained, self.pairs, strict=True)
        ]
        return torch.stack(parts).mean()


def relative_distance(x_BTE: "Tensor", y_BTE: "Tensor", batch: Batch) -> "Tensor":
    """``mean((x - y)^2) / mean(y^2)`` over the tokens that count; over the tokens' means where numbers differ."""
    if len(x_BTE) != len(y_BTE):
        what = f"hidden states {tuple(x_BTE.shape)} and {tuple(y_BTE.shape)} cannot be matched"
        raise InputError(what, "use another loss, or layers: last")
    ours, theirs = counted_tokens(batch, x_BTE), counted_tokens(batch, y_BTE)
    if x_BTE.shape[1] == y_BTE.shape[1]:
        x_NE, y_NE = x_BTE[ours].float(), y_BTE[ours]
    else:
        x_NE, y_NE = _mean(x_BTE.float(), ours), _mean(y_BTE, theirs)
    return (x_NE - y_NE).square().mean() / y_NE.square().mean().clamp(min=1e-12)


def _mean(x_BTE: "Tensor", counts_BT: "Tensor") -> "Tensor":
    weights_BT1 = counts_BT[..., None].to(x_BTE.dtype)
    return (x_BTE * weights_BT1).sum(1) / weights_BT1.sum(1).clamp(min=1)


def _projectors(widths: "list[tuple[int, int]]", seed: int) -> "nn.ModuleList":
    """A linear map per matched layer: the identity where widths are equal, else random and nearly orthogonal."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    made = torch.nn.ModuleList()
    for ours, theirs in widths:
        linear = torch.nn.Linear(ours, theirs, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            eye = torch.eye(ours) if ours == theirs else torch.randn(theirs, ours, generator=generator) / ours**0.5
            linear.weight.copy_(eye)
            linear.bias.zero_()
        made.append(linear)
    return made
