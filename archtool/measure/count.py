"""Counted truth, against which analytic costs are checked.

FLOPs are counted by running the module, under the MATH attention backend: torch's counter does not see the
fused attention of CPUs. A MAC is one multiply-add: FLOPs = 2 × MACs.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def count_parameters(module: "nn.Module") -> int:
    """Numbers in the module's parameters; a shared parameter counts once."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_flops(module: "nn.Module", inputs: "Mapping[str, Tensor]") -> int:
    """FLOPs of one call: matrix products, convolutions and attention, as torch's counter sees them."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(**inputs)
    return int(counter.get_total_flops())


def count_macs(module: "nn.Module", inputs: "Mapping[str, Tensor]") -> int:
    """Multiply-adds of one call: half of `count_flops`; a shared block counts each time it runs."""
    return count_flops(module, inputs) // 2
