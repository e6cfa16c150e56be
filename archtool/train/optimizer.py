"""AdamW (Loshchilov & Hutter 2019) as training here uses it: decay on matrices only."""

from typing import TYPE_CHECKING

from archtool.errors import InputError
from archtool.train.settings import TrainSettings

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import AdamW


def adamw(module: "nn.Module", settings: TrainSettings) -> "AdamW":
    """The optimizer of all parameters that take gradients; `InputError` where there are none."""
    from torch.optim import AdamW

    trained = [p for p in module.parameters() if p.requires_grad]
    if not trained:
        raise InputError("the model has no tensor that can be trained", "train before quantizing")
    matrices = [p for p in trained if p.dim() >= 2]
    vectors = [p for p in trained if p.dim() < 2]
    groups = [
        {"params": params, "weight_decay": decay}
        for params, decay in ((matrices, settings.weight_decay), (vectors, 0.0))
        if params
    ]
    return AdamW(groups, lr=settings.lr, betas=settings.betas, fused=True)
