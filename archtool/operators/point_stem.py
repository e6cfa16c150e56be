"""Points as tokens: each point's coordinates and features through a small perceptron; also a conditioning vector.

Source: Qi et al. 2017 (PointNet's shared perceptron); the lifting of neural operators (Li et al. 2021) is the same with
``hidden`` absent. A vector of conditions (a time, a class embedding) is one point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import Dim, dim
from archtool.ir.operator import SELECT, Feed, Operator, Site
from archtool.ir.parts import Linear, Part
from archtool.operators.activation import activation

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class PointStem(Operator):
    """``W2 act(W1 p)`` per point; without ``act`` one linear map.

    Attributes:
        width / features: axis names of the stream and of a point's numbers.
        points: how many there are: a number, or the name of a free extent.
        act: activation of the hidden layer; ``""``: no hidden layer.
    """

    kind: ClassVar[str] = "stem.point"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"hidden": SELECT}
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "T hidden (features + D), or T features D"
    papers: ClassVar[tuple[int, ...]] = (58, 93, 179)

    width: str = "s0.width"
    features: str = "features"
    points: str | int = "length"
    act: str = "gelu"

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``fc1``, ``fc2``, or ``lift`` alone."""
        features, width = dim(self.features), dim(self.width)
        if not self.act:
            return (Linear("lift", width, features),)
        return Linear("fc1", site.dim("hidden"), features), Linear("fc2", width, site.dim("hidden"))

    def out(self, site: Site) -> Dim:
        """The stream width."""
        return dim(self.width)

    def feeds(self, site: Site, name: str) -> Mapping[str, Feed]:
        """(points, features) numbers."""
        return {name: Feed((self.points, site.sizes[self.features]))}

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.mlp import Mlp
        from archtool.operators.samples import alone, branch, model

        sizes, body = {"features": 5, "s0.width": 16}, [[branch(Mlp(act="relu"), hidden=8)]]
        return tuple(
            model(("points",), stem, body, sizes, {}) for stem in (alone(cls(), hidden=12), alone(cls(act="")))
        )

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, N, F) → (B, N, D)."""
        return m.fc2(activation(self.act)(m.fc1(x))) if self.act else m.lift(x)
