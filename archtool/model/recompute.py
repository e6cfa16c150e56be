"""Trading time for memory: what a block computes is made again in the backward pass instead of kept.

Source: Chen et al. 2016 (sublinear memory), with torch's non-reentrant checkpoints. The streams between blocks stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from archtool.model.context import beside

if TYPE_CHECKING:
    from archtool.ir.architecture import Block
    from archtool.model.context import Context


class _Call(nn.Module):
    """A block's module whose tensors `functional_call` may replace while something runs."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, run: Callable[[], Any]) -> Any:
        """Run it."""
        return run()


def recomputed(
    model: nn.Module, run: Callable[..., Any], block: Block, x: Any, left: Mapping[str, Any], ctx: Context, module: Any
) -> Any:
    """``run(block, x, left, ctx, module)``, which runs once more in the backward pass.

    Then the block has the tensors that it has now (views of a sub-network), reads the streams that it read and what the
    pass had noted before it, and updates copies of its running statistics, so that these move once.
    """
    if not torch.is_grad_enabled():
        return run(block, x, left, ctx, module)
    before, inner = ctx.copied(), model.get_submodule(block.owner)
    read = {name: left[name] for name in beside(block)}
    tensors, buffers = (dict(named(remove_duplicate=False)) for named in (inner.named_parameters, inner.named_buffers))
    first = [True]

    def once(entering: Any) -> Any:
        if first[0]:
            first[0] = False
            return run(block, entering, read, ctx, module)
        held = {**tensors, **{name: buffer.clone() for name, buffer in buffers.items()}}
        return _with(inner, held, lambda: run(block, entering, read, before.copied(), module))

    return checkpoint(once, x, use_reentrant=False)


def _with(inner: nn.Module, held: Mapping[str, Tensor], run: Callable[[], Any]) -> Any:
    named = {f"block.{name}": tensor for name, tensor in held.items()}
    return functional_call(_Call(inner), named, (run,), tie_weights=False)
