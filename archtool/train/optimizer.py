"""The optimizers of a run: AdamW, SGD, or Muon for the matrices inside the network with AdamW for all else.

AdamW: Loshchilov & Hutter 2019. Muon: Jordan et al. 2024, with updates of AdamW's size (Liu et al. 2025), so that one
learning rate and one decay serve both. Decay is on matrices only. Which matrices lie inside is read off the axis table.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archtool.errors import InputError
from archtool.ir.architecture import Architecture
from archtool.ir.parts import Kind, Role
from archtool.ir.table import Claim, claims
from archtool.train.settings import TrainSettings

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

MUON_MOMENTUM = 0.95
SGD_MOMENTUM = 0.9


def optimizers(modules: "Mapping[str, nn.Module]", settings: TrainSettings) -> "dict[str, Optimizer]":
    """The optimizers by name, which together hold every parameter of ``modules`` that takes gradients, once.

    Muon serves the inner matrices of ``modules["model"]``.

    Raises:
        InputError: there is none, or Muon is asked for a module without an architecture.
    """
    import torch

    trained = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
    if not any(p.requires_grad for p in modules["model"].parameters()):
        raise InputError("the model has no tensor that can be trained", "train before quantizing")
    if settings.optimizer == "sgd":
        sgd = torch.optim.SGD(_groups(trained, settings), settings.lr, momentum=SGD_MOMENTUM, nesterov=True)
        return {"sgd": sgd}
    inside = _inside(modules["model"]) if settings.optimizer == "muon" else set()
    made: dict[str, Optimizer] = {}
    matrices, others = ([p for p in trained if (id(p) in inside) is wanted] for wanted in (True, False))
    if matrices:
        made["muon"] = torch.optim.Muon(
            matrices, settings.lr, settings.weight_decay, momentum=MUON_MOMENTUM, nesterov=True,
            adjust_lr_fn="match_rms_adamw",
        )  # fmt: skip
    if others:
        made["adamw"] = torch.optim.AdamW(_groups(others, settings), settings.lr, betas=settings.betas, fused=True)
    return made


def set_rates(made: "Mapping[str, Optimizer]", lr: float) -> None:
    """The learning rate of the next step, for all optimizers."""
    for optimizer in made.values():
        for group in optimizer.param_groups:
            group["lr"] = lr


def hidden_matrices(arch: Architecture) -> frozenset[str]:
    """Storage names of the matrices that lead from stream to stream: in no stem and no head, and looked up by nobody.

    A layer of a block that reads an input of the graph belongs to a stem, one without a residual in a block that is an
    output to a head. Kernels of convolutions are no matrices.
    """
    inside: dict[str, bool] = {}
    for claim in claims(arch):
        name = claim.spec.storage
        inside[name] = inside.get(name, True) and _leads_inside(claim, arch)
    return frozenset(name for name, is_inside in inside.items() if is_inside)


def _leads_inside(claim: Claim, arch: Architecture) -> bool:
    block, layer = claim.place.block, claim.place.layer
    entering = block.inputs or ((arch.inputs[0],) if block == arch.blocks[0] else ())
    in_stem = any(name in arch.inputs for name in entering)
    in_head = block.name in dict(arch.outputs).values() and not layer.residual and not _in_branch(claim)
    is_matrix = claim.spec.kind is Kind.PARAMETER and claim.spec.roles == (Role.PRODUCES, Role.CONSUMES)
    return is_matrix and not in_stem and not in_head


def _in_branch(claim: Claim) -> bool:
    """Whether a later layer of the block adds the stream from before this one to what it gives."""
    names = [layer.name for layer in claim.place.block.layers]
    at = names.index(claim.place.layer.name)
    later = claim.place.block.layers[at + 1 :]
    return any(layer.since and names.index(layer.since) <= at for layer in later)


def _inside(module: "nn.Module") -> set[int]:
    arch: Any = getattr(module, "architecture", None)
    if arch is None:
        raise InputError("Muon needs an architecture to tell the inner matrices by", "use optimizer: adamw")
    return {id(module.get_parameter(name)) for name in hidden_matrices(arch)}


def _groups(params: "Sequence[nn.Parameter]", settings: TrainSettings) -> list[dict[str, Any]]:
    matrices, vectors = ([p for p in params if (p.dim() >= 2) is wanted] for wanted in (True, False))
    decays = ((matrices, settings.weight_decay), (vectors, 0.0))
    return [{"params": chosen, "weight_decay": decay} for chosen, decay in decays if chosen]
