"""Which channels of which parts belong together, as torch-pruning traces it.

torch-pruning does not know transformers' ``Conv1D`` (GPT-2), which it leaves as it is without a word; here it gets a
pruner of its own.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archtool.errors import InputError
from archtool.model.foreign import called

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Cut:
    """Indices of one side of a part (``out``, ``in``, ``both``), or of a dimension of a parameter (``dim``)."""

    part: str
    side: str
    indices: tuple[int, ...]
    dim: int = 0


@dataclass(frozen=True)
class Graph:
    """A traced module.

    Attributes:
        module: the module as it was traced; never changed.
        inner: torch-pruning's graph of it.
        names: part or parameter → its name.
    """

    module: nn.Module
    inner: Any
    names: Mapping[Any, str]

    def roots(self) -> list[tuple[str, int]]:
        """Linear layers and convolutions that begin a group, with their number of output channels."""
        import torch_pruning as tp

        kinds = (tp.ops.TORCH_CONV, tp.ops.TORCH_LINEAR, *conv1d_types())
        groups = self.inner.get_all_groups(root_module_types=kinds)
        return [(self.names[group[0].dep.target.module], len(group[0].idxs)) for group in groups]

    def cuts(self, root: str, indices: Sequence[int]) -> tuple[Cut, ...]:
        """All that goes with these output channels of a part."""
        part = self.module.get_submodule(root)
        pruner = self.inner.get_pruner_of_module(part)
        found = self.inner.get_pruning_group(part, pruner.prune_out_channels, list(indices))
        made = [self._cut(dep, idxs) for dep, idxs in found]
        return merged([cut for cut in made if cut is not None])

    def _cut(self, dep: Any, idxs: Sequence[int]) -> Cut | None:
        """None for what torch-pruning calls an operation, which has no tensors."""
        target = dep.target.module
        if target not in self.names:
            return None
        pruner = self.inner.get_pruner_of_module(target)
        if not isinstance(target, _module_type()):
            return Cut(self.names[target], "dim", tuple(idxs), int(dep.target.pruning_dim))
        both = pruner.prune_in_channels == pruner.prune_out_channels
        side = "both" if both else "out" if dep.handler == pruner.prune_out_channels else "in"
        return Cut(self.names[target], side, tuple(idxs))

    def slicer(self, part: Any) -> Any:
        """torch-pruning's pruner of a part (also of a copy)."""
        return self.inner.get_pruner_of_module(part)


def merged(cuts: Sequence[Cut]) -> tuple[Cut, ...]:
    """One cut for each side of each part, of all indices that any of them has."""
    found: dict[tuple[str, str, int], set[int]] = {}
    for cut in cuts:
        found.setdefault((cut.part, cut.side, cut.dim), set()).update(cut.indices)
    return tuple(Cut(part, side, tuple(sorted(i)), dim) for (part, side, dim), i in found.items())


def trace(module: nn.Module, inputs: Mapping[str, Tensor]) -> Graph:
    """Trace a copy of a module on example inputs.

    Raises:
        InputError: the module does not run on them, or torch-pruning cannot follow it.
    """
    import torch_pruning as tp

    own = copy.deepcopy(module).eval().requires_grad_(True)
    config: Any = getattr(own, "config", None)
    if hasattr(config, "use_cache"):
        config.use_cache = False  # concatenations with an empty cache are no part of the function
    run(own, inputs)
    inner = tp.DependencyGraph()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inner.build_dependency(
                own, dict(inputs), forward_fn=lambda m, given: list(called(m)(**given).values()), verbose=False,
                customized_pruners={kind: conv1d_pruner() for kind in conv1d_types()},
            )  # fmt: skip
    except Exception as error:
        what = f"torch-pruning cannot follow this module: {type(error).__name__}: {_line(error)}"
        raise InputError(what, "Prune a part of it, or describe it as a family.") from error
    names: dict[Any, str] = {part: name for name, part in own.named_modules() if name}
    return Graph(own, inner, names | {parameter: name for name, parameter in own.named_parameters()})


def run(module: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The outputs on example inputs; raises `InputError` where it does not run or gives no floating tensor."""
    import torch

    try:
        with torch.no_grad():
            found = called(module)(**inputs)
    except Exception as error:
        what = f"the module does not run on the example input: {type(error).__name__}: {_line(error)}"
        raise InputError(what, "Correct --example-input or the module.") from error
    if not found:
        raise InputError("the module gives no floating tensor", "Return tensors, also in tuples or dictionaries.")
    return found


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]


def _module_type() -> type[Any]:
    import torch

    return torch.nn.Module


def conv1d_types() -> tuple[type[Any], ...]:
    """transformers' ``Conv1D``, whose weight is (in, out)."""
    from transformers.pytorch_utils import Conv1D

    return (Conv1D,)


def conv1d_pruner() -> Any:
    """A pruner of ``Conv1D`` for torch-pruning."""
    from torch_pruning.pruner.function import BasePruningFunc

    def sliced(layer: Any, indices: Sequence[int], dim: int) -> list[int]:
        import torch

        kept = sorted(set(range(layer.weight.shape[dim])) - set(indices))
        layer.weight = torch.nn.Parameter(layer.weight.detach().index_select(dim, torch.tensor(kept)))
        return kept

    class Conv1DPruner(BasePruningFunc):  # type: ignore[misc]
        def prune_out_channels(self, layer: Any, idxs: Sequence[int]) -> Any:
            import torch

            kept = sliced(layer, idxs, 1)
            layer.bias, layer.nf = torch.nn.Parameter(layer.bias.detach()[kept]), len(kept)
            return layer

        def prune_in_channels(self, layer: Any, idxs: Sequence[int]) -> Any:
            layer.nx = len(sliced(layer, idxs, 0))
            return layer

        def get_out_channels(self, layer: Any) -> int:
            return int(layer.nf)

        def get_in_channels(self, layer: Any) -> int:
            return int(layer.weight.shape[0])

    return Conv1DPruner()
