"""Two-layer perceptron on each token: ``fc2(act(fc1(x)))`` (Vaswani et al. 2017, section 3.3).

Axes: ``hidden`` (F). It may be selected, permuted and prefix-nested; scaling is exact only through ReLU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.architecture import NormSpec
from archtool.ir.operator import SELECT, Flow, Operator, Site
from archtool.ir.parts import Linear, Part
from archtool.operators.activation import activation

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class Mlp(Operator):
    """``fc2(act(fc1(x)))``.

    Attributes:
        act: activation.
        bias: whether the two layers have biases.
        norm: a norm on the hidden layer, after the activation or, ``norm_first``, before it.
    """

    kind: ClassVar[str] = "ffn.mlp"
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "2 T D hidden"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"hidden": SELECT}
    papers: ClassVar[tuple[int, ...]] = (6, 14, 19, 74, 164, 192, 196, 207, 224, 265)

    act: str = "gelu"
    bias: bool = True
    norm: NormSpec | None = None
    norm_first: bool = False

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``fc1`` (hidden, in), ``fc2`` (in, hidden) and ``norm`` where there is one."""
        hidden = site.dim("hidden")
        norms = (self.norm.part("norm", hidden),) if self.norm else ()
        return (Linear("fc1", hidden, site.stream, self.bias), Linear("fc2", site.stream, hidden, self.bias), *norms)

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """The hidden layer before and after the activation."""
        return 2 * flow.tokens * site.size("hidden")

    def feeder(self, norm: str) -> str:
        """See `Operator.before`."""
        if norm == "norm":
            return "fc1" if self.norm_first else ""
        return "fc2" if norm == "branch" else ""

    def readers(self, norm: str) -> tuple[str, ...]:
        """See `Operator.after`."""
        if norm == "norm":
            return () if self.norm_first else ("fc2",)
        return ("fc1",) if norm == "pre" else ()

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, in_text, on_image

        inner = cls(act="silu", norm=NormSpec("batch"), norm_first=True), cls(act="gelu", norm=NormSpec("grn", 1e-6))
        return (in_text([branch(cls(act="gelu"), hidden=24)]), on_image(*([branch(op, hidden=24)] for op in inner)))

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        hidden = m.fc1(x)
        if self.norm and self.norm_first:
            return m.fc2(activation(self.act)(m.norm(hidden)))
        hidden = activation(self.act)(hidden)
        return m.fc2(m.norm(hidden) if self.norm else hidden)
