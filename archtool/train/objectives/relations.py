"""Distillation of attention relations (Wang et al. 2021, MiniLMv2): independent of head counts and widths.

The relation of queries is ``softmax(Q Qᵀ / sqrt(d))`` among the tokens, likewise for keys and values; the teacher's is
matched by its divergence. Legend: `B` batch, `T` tokens, `W` channels of a projection, `R` relation heads.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from archtool.data.batches import Batch
from archtool.errors import InputError
from archtool.ir.architecture import Architecture, Place
from archtool.model.capture import attentions
from archtool.train.objectives.layers import LayerMap, counted_tokens, matched
from archtool.train.objectives.teacher import Teacher

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("q", "k", "v")


class AttentionRelations:
    """``KL(teacher's relations || the model's)``: mean over heads, tokens, kinds (q, k, v) and matched layers.

    Args:
        teacher: whose relations are wanted.
        ours / theirs: the two architectures.
        layers: which are matched: the ``last`` of both, or all of ours ``even``-ly with the teacher's.
        heads: into how many relation heads both models' channels are cut.
    """

    def __init__(
        self, teacher: Teacher, ours: Architecture, theirs: Architecture, layers: LayerMap = "last", heads: int = 1
    ) -> None:
        pairs = matched(attentions(ours), attentions(theirs), layers, "attention with queries, keys and values")
        self.teacher, self.heads = teacher, heads
        self.pairs = tuple((mine.key, wanted.key) for mine, wanted in pairs)
        self.causal = tuple(_is_causal(mine) and _is_causal(wanted) for mine, wanted in pairs)
        self.places = tuple(f"{mine}.{kind}" for mine, _ in self.pairs for kind in KINDS)
        self.identity = [teacher.identity, self.pairs, heads]
        teacher.look_at(f"{wanted}.{kind}" for _, wanted in self.pairs for kind in KINDS)

    def __call__(self, outputs: "Mapping[str, Tensor]", batch: Batch) -> "Tensor":
        """The mean over the batch."""
        import torch

        wanted = self.teacher.outputs(batch)
        parts = [
            relation_kl(outputs[f"{mine}.{kind}"], wanted[f"{theirs}.{kind}"], batch, self.heads, causal)
            for (mine, theirs), causal in zip(self.pairs, self.causal, strict=True)
            for kind in KINDS
        ]
        return torch.stack(parts).mean()


def relation_kl(x_BTW: "Tensor", y_BTW: "Tensor", batch: Batch, heads: int, causal: bool) -> "Tensor":
    """Divergence of one relation, mean over heads and the tokens that count."""
    if x_BTW.shape[:2] != y_BTW.shape[:2]:
        what = f"relations among {tuple(x_BTW.shape[:2])} and {tuple(y_BTW.shape[:2])} (batch, tokens) differ in shape"
        raise InputError(what, "the two models must cut their input into the same tokens")
    counts_BT = counted_tokens(batch, x_BTW)
    log_q, log_p = (_log_relation(side, counts_BT, heads, causal) for side in (x_BTW, y_BTW))
    kl_BRT = (log_p.exp() * (log_p - log_q)).sum(-1)
    rows_BRT = counts_BT[:, None].expand_as(kl_BRT)
    return kl_BRT[rows_BRT].mean()


def _log_relation(x_BTW: "Tensor", counts_BT: "Tensor", heads: int, causal: bool) -> "Tensor":
    import torch

    if x_BTW.shape[-1] % heads:
        what = f"{x_BTW.shape[-1]} channels cannot be cut into {heads} relation heads"
        raise InputError(what, "give relation_heads that divides the channels of both models, or 1")
    x_BRTK = x_BTW.float().unflatten(-1, (heads, -1)).transpose(1, 2)
    scores_BRTT = x_BRTK @ x_BRTK.transpose(2, 3) / x_BRTK.shape[-1] ** 0.5
    unseen = ~counts_BT[:, None, None, :]
    if causal:
        ahead = torch.ones(scores_BRTT.shape[-2:], dtype=torch.bool, device=unseen.device).triu(1)
        unseen = unseen | ahead
    return torch.log_softmax(scores_BRTT.masked_fill(unseen, torch.finfo(scores_BRTT.dtype).min), -1)


def _is_causal(place: Place) -> bool:
    return bool(getattr(place.layer.op, "causal", False))
