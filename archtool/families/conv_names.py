"""Names of convolutions with the norms after them, as Hugging Face's mobile models spell them."""

from __future__ import annotations

from collections.abc import Iterator

from archtool.families.names import Entry, entry, linear
from archtool.ir.architecture import Layer, NormSpec
from archtool.operators.conv import GridConv
from archtool.operators.mbconv import MBConv

EXPANDED = {"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"}
BUFFERS = ("running_mean", "running_var")


def norm_names(file: str, part: str, norm: NormSpec) -> list[Entry]:
    """Gain, bias and statistics of a norm."""
    leaves = (*(("weight", "bias") if norm.gain else ()), *(BUFFERS if norm.kind == "batch" else ()))
    return [entry(f"{file}.{leaf}", f"{part}.{leaf}") for leaf in leaves]


def conv_names(file: str, place: str, layer: Layer) -> list[Entry]:
    """A convolution and the norm on its branch."""
    assert isinstance(layer.op, GridConv)
    entries = linear(f"{file}.convolution", f"{place}.conv", bias=layer.op.bias)
    return entries + (norm_names(f"{file}.normalization", f"{place}.branch", layer.branch) if layer.branch else [])


def inverted_names(at: str, block: str, layer: Layer) -> Iterator[Entry]:
    """The three convolutions of an inverted residual with their norms."""
    op, place = layer.op, f"{block}.{layer.name}"
    assert isinstance(op, MBConv)
    norms = {"expand": op.expand_norm, "depthwise": op.depthwise_norm, "project": layer.branch}
    for part, file in EXPANDED.items():
        norm = norms[part]
        bias = op.bias if part == "project" else norm is None
        yield from linear(f"{at}.{file}.convolution", f"{place}.{part}", bias=bias)
        if norm:
            own = f"{place}.branch" if part == "project" else f"{place}.{part}_norm"
            yield from norm_names(f"{at}.{file}.normalization", own, norm)
