"""One operator many times in one graph, so that a slope over the number of copies has no overhead in it.

Each copy has weights of its own: repeating one set would keep it in the cache, which a real model does not.
Copies feed each other where an output looks like the input; otherwise all read the same input.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

_SMALLEST = 1e-30
"""Chained values below this come near fp32's subnormal numbers, which processors compute slowly."""


def build_copies(
    make_module: "Callable[[], nn.Module]", inputs: "Mapping[str, Tensor]", copies: int, chained: bool
) -> "nn.Module":
    """``copies`` fresh modules as one, called by keyword, answering with a dictionary.

    Args:
        make_module: a new operator; takes ``inputs`` by keyword, returns a tensor or a dictionary of tensors.
        inputs: one set of inputs; the first is the one that is chained.
        copies: how many.
        chained: feed each output to the next copy's first input (see `can_chain`).
    """
    from torch import Tensor, nn

    first = next(iter(inputs))

    class Copies(nn.Module):
        """The operator, repeated."""

        def __init__(self) -> None:
            super().__init__()
            self.copies = nn.ModuleList(make_module() for _ in range(copies))

        def forward(self, **given: Tensor) -> dict[str, Tensor]:
            """All copies, in order."""
            outputs = []
            for copy in self.copies:
                outputs.append(_get_first(copy(**given)))
                if chained:
                    given = {**given, first: outputs[-1]}
            kept = outputs[-1:] if chained else outputs
            return {f"y{i}": y for i, y in enumerate(kept)}

    return Copies().eval()


def build_identity() -> "nn.Module":
    """A model that copies its input ``x``: its latency is the runtime's overhead per call."""
    from torch import Tensor, nn

    class Identity(nn.Module):
        """The input, unchanged."""

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            """Nothing is computed."""
            return {"y": x.clone()}

    return Identity().eval()


def build_reference() -> "nn.Module":
    """A small fixed network of matrix products, norms and activations, whose speed tells how busy a machine is."""
    import torch
    from torch import Tensor, nn

    class Reference(nn.Module):
        """(B, T, 256) → (B, T, 256)."""

        def __init__(self) -> None:
            super().__init__()
            layers = (nn.Linear(256, 1024), nn.GELU(), nn.Linear(1024, 256), nn.LayerNorm(256))
            self.layers = nn.Sequential(*layers)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            """All layers in order."""
            return {"y": self.layers(x)}

    reference, generator = Reference(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.normal_(0.0, 0.05, generator=generator)
    return reference.eval()


def can_chain(make_module: "Callable[[], nn.Module]", inputs: "Mapping[str, Tensor]", copies: int) -> bool:
    """Whether an output can feed the next copy: same shape and dtype, and values that stay normal numbers."""
    import torch

    x = next(iter(inputs.values()))
    if not x.is_floating_point():
        return False
    with torch.inference_mode():
        y = _get_first(make_module().eval()(**inputs))
        if (y.shape, y.dtype) != (x.shape, x.dtype):
            return False
        last = next(iter(build_copies(make_module, inputs, copies, True)(**inputs).values()))
    return bool(torch.isfinite(last).all()) and float(last.abs().max()) > _SMALLEST


def _get_first(output: "Tensor | Mapping[str, Tensor]") -> "Tensor":
    from torch import Tensor

    return output if isinstance(output, Tensor) else next(iter(output.values()))
