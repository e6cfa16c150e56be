"""Overlapping patch embedding: a strided convolution on pixels whose patches share their borders (Wu et al. 2021).

Between stages the same is `down.conv` with a norm behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.operators.conv_stem import ConvStem

if TYPE_CHECKING:
    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class OverlapStem(ConvStem):
    """Patches of ``kernel`` pixels, ``stride`` apart; `overlapping` gives the padding that centres them."""

    kind: ClassVar[str] = "stem.overlap"
    cost_form: ClassVar[str] = "T' kernel² channels D"
    constraints: ClassVar[tuple[str, ...]] = ("an image at least as large as a patch without its padding",)
    papers: ClassVar[tuple[int, ...]] = (14, 43, 79, 87, 91, 92, 141, 160, 180, 265)

    kernel: tuple[int, int] = (7, 7)
    stride: tuple[int, int] = (4, 4)
    padding: tuple[int, int] = (3, 3)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.ir.architecture import Layer, NormSpec
        from archtool.operators.mlp import Mlp
        from archtool.operators.samples import Sized, branch, model

        stem: Sized = Layer("op", cls(**overlapping(7, 4)), post=NormSpec(), residual=False), {}
        sizes, facts = {"channels": 3, "s0.width": 16}, {"image_height": 16, "image_width": 24}
        return (model(("pixel_values",), stem, [[branch(Mlp(act="relu"), hidden=8)]], sizes, facts),)


def overlapping(patch: int, stride: int) -> dict[str, Any]:
    """Kernel, stride and padding of square patches, with half a patch of padding on every side."""
    half = patch // 2
    return {"kernel": (patch, patch), "stride": (stride, stride), "padding": (half, half)}
