"""Strided convolution between stages; a norm before it is the layer's ``pre`` (ConvNeXt), one after it ``branch``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from archtool.operators.conv import GridConv

if TYPE_CHECKING:
    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class DownConv(GridConv):
    """A convolution that makes the grid smaller, onto the stream of the next stage (``into``)."""

    kind: ClassVar[str] = "down.conv"
    cost_form: ClassVar[str] = "T' kernel² D D'"
    papers: ClassVar[tuple[int, ...]] = (1, 14, 20, 43, 74, 91, 106, 137, 158, 236)

    kernel: tuple[int, int] = (2, 2)
    stride: tuple[int, int] = (2, 2)
    padding: tuple[int, int] = (0, 0)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.ir.architecture import Layer
        from archtool.operators.mlp import Mlp
        from archtool.operators.samples import NORM, branch, on_image

        into, ffn = "s1.width", branch(Mlp(act="relu"), hidden=8)
        before = Layer("op", cls(into=into), pre=NORM, residual=False)
        after = Layer("op", cls(into=into, kernel=(3, 3), padding=(1, 1)), branch=NORM, residual=False)
        return tuple(
            on_image([ffn], [(down, {})], [ffn], sizes={into: 12}, stages=("s0", "", "s1")) for down in (before, after)
        )
