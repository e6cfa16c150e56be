"""Which technique an operator takes, found by trying each on the operator's own samples.

A technique is *yes* where the generic code applies it exactly, otherwise the reason is the refusal's own message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from archtool.errors import ArchtoolError
from archtool.ir.architecture import Architecture, NormSpec, Place, place_flows
from archtool.ir.axes import Selection
from archtool.ir.edit import Drop, Edit, Encode, Fold, Select, edited, indices
from archtool.ir.encodings import Affine, EncodingPlan
from archtool.ir.feeds import entering
from archtool.ir.operator import Operator
from archtool.ir.table import shape

YES = "yes"
NONE = "-"
Verdict = Callable[[Architecture, Place], str]


def legality(samples: tuple[Architecture, ...], kind: str) -> dict[str, str]:
    """Technique → ``yes``, ``-`` (nothing to apply it to) or why not; the best over the samples' places."""
    places = [
        (arch, place) for arch in samples for place in arch.places if place.layer.op and place.layer.op.kind == kind
    ]
    return {
        name: _best(_plain(judge(arch, place), place) for arch, place in places) for name, judge in TECHNIQUES.items()
    }


def _plain(text: str, place: Place) -> str:
    """A message without the names of the sample."""
    named = text.replace(f"{place.name}.", "").replace(place.key, "the layer")
    return named.replace(f"block {place.block.name} ", "the block ")


def _best(verdicts: Iterator[str]) -> str:
    found = list(verdicts)
    return next((v for v in found if v.startswith(YES)), next((v for v in found if v != NONE), NONE))


def _narrow(arch: Architecture, place: Place) -> str:
    """Selections on its own axes, each alone."""
    taken: list[str] = []
    refused: list[str] = []
    for local in _operator(place).local_axes:
        axis = place.site.axis(local)
        if arch.size.get(axis, 0) > 1:
            reason = _refusal(arch, Select(Selection(axis, tuple(range(arch.size[axis] - 1)))))
            (refused if reason else taken).append(local)
    if taken:
        return f"{YES}: {', '.join(taken)}"
    return f"fixed: {', '.join(refused)}" if refused else NONE


def _stream(arch: Architecture, place: Place) -> str:
    """A selection on the stream that enters."""
    axes = [axis for dimension in place.site.inputs[:1] for axis in dimension.axes() if arch.size[axis] > 1]
    if not axes:
        return NONE
    return _refusal(arch, Select(Selection(axes[0], tuple(range(arch.size[axes[0]] - 1))))) or YES


def _drop(arch: Architecture, place: Place) -> str:
    """The layer reduced to the identity."""
    return _refusal(arch, Drop(place.block.name, place.layer.name)) or YES


def _drop_block(arch: Architecture, place: Place) -> str:
    """Its whole block left out."""
    return _refusal(arch, Drop(place.block.name)) or YES


def _encoded(encoding: Affine) -> Verdict:
    def judge(arch: Architecture, place: Place) -> str:
        names = [f"{place.name}.{part.name}.weight" for part in _operator(place).parts(place.site)
                 if any(spec.encodable for spec in part.tensors())]  # fmt: skip
        if not names:
            return NONE
        reasons = [_refusal(arch, Encode(name, encoding)) for name in names if not _tied(place, name)]
        return next((reason for reason in reasons if reason), YES)

    return judge


def _tied(place: Place, name: str) -> bool:
    parts = {f"{place.name}.{part.name}.weight": part for part in _operator(place).parts(place.site)}
    return bool(getattr(parts[name], "tie", ""))


def _prefix(arch: Architecture, place: Place) -> str:
    """Prefixes of its axes as views of the parent's tensors."""
    found = _narrow(arch, place)
    if not found.startswith(YES):
        return found
    axis = place.site.axis(found.removeprefix(f"{YES}: ").split(", ")[0])
    cut = {axis: Selection(axis, tuple(range(arch.size[axis] - 1)))}
    specs = (spec for part in place.parts for spec in part.tensors())
    picks = (indices(d, arch, cut) for spec in specs if all(shape(spec, arch)) for d in spec.dims)
    whole = all(p is None or list(p) == list(range(p[0], p[-1] + 1)) for p in picks if p is None or len(p))
    return YES if whole else f"{YES}, gathered"


def _state(arch: Architecture, place: Place) -> str:
    """Generation token by token."""
    flows = dict(zip((p.key for p in arch.places), place_flows(arch, entering(arch, 8)), strict=True))
    op = _operator(place)
    return YES if op.state_elements(place.site, flows[place.key]) and getattr(op, "causal", False) else NONE


def _folds(norm: str, spec: NormSpec) -> Verdict:
    def judge(arch: Architecture, place: Place) -> str:
        if norm == "pre" and not place.site.inputs:
            return NONE
        layer = replace(place.layer, **{norm: spec})  # type: ignore[arg-type]
        block = replace(place.block, layers=tuple(layer if x is place.layer else x for x in place.block.layers))
        there = replace(arch, blocks=tuple(block if b is place.block else b for b in arch.blocks))
        return _refusal(there, Fold(block.name, layer.name, norm)) or YES

    return judge


def _operator(place: Place) -> Operator:
    assert place.layer.op is not None
    return place.layer.op


def _refusal(arch: Architecture, decision: Any) -> str:
    try:
        edited(arch, EncodingPlan(), Edit("legality", (decision,)))
    except ArchtoolError as refused:
        return refused.what
    return ""


TECHNIQUES: Mapping[str, Verdict] = {
    "narrow": _narrow,
    "narrow the stream": _stream,
    "nested prefix": _prefix,
    "drop the layer": _drop,
    "drop the block": _drop_block,
    "int8": _encoded(Affine(8)),
    "int4": _encoded(Affine(4)),
    "fold a BatchNorm after it": _folds("branch", NormSpec("batch")),
    "fold a LayerNorm before it": _folds("pre", NormSpec()),
    "stepwise generation": _state,
}
"""Technique → how it is tried."""
