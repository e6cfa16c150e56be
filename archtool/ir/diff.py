"""What differs between two architectures and plans: axis sizes, blocks, operators, encodings."""

from __future__ import annotations

from dataclasses import dataclass

from archtool.ir.architecture import Architecture, Block
from archtool.ir.encodings import Encoding, EncodingPlan


@dataclass(frozen=True)
class Change:
    """One difference: ``before`` or ``after`` is None where the thing exists on one side only."""

    what: str
    name: str
    before: str | int | None
    after: str | int | None


def diff(
    before: Architecture, after: Architecture,
    before_plan: EncodingPlan | None = None, after_plan: EncodingPlan | None = None,
) -> tuple[Change, ...]:  # fmt: skip
    """All changes: axes first, then blocks and layers, then encodings."""
    changes = _pairs("axis", dict(before.sizes), dict(after.sizes))
    changes += _pairs("layer", _layers(before), _layers(after))
    changes += _pairs("output", dict(before.outputs), dict(after.outputs))
    one = {name: describe(e) for name, e in (before_plan or EncodingPlan()).entries}
    two = {name: describe(e) for name, e in (after_plan or EncodingPlan()).entries}
    return tuple(changes + _pairs("encoding", one, two))


def describe(encoding: Encoding) -> str:
    """A short text such as ``affine(bits=4, group=32)``."""
    import dataclasses

    changed = [f for f in dataclasses.fields(encoding) if getattr(encoding, f.name) != f.default or f.name == "bits"]
    return f"{encoding.kind}({', '.join(f'{f.name}={getattr(encoding, f.name)}' for f in changed)})"


def _layers(arch: Architecture) -> dict[str, str]:
    return {f"{b.name}.{layer.name}": _layer_text(b, layer) for b in arch.blocks for layer in b.layers}


def _layer_text(block: Block, layer: object) -> str:
    shared = f" shares {block.share}" if block.share else ""
    return f"{layer!r}{shared}"


def _pairs(what: str, one: dict[str, str] | dict[str, int], two: dict[str, str] | dict[str, int]) -> list[Change]:
    names = [*one, *(name for name in two if name not in one)]
    return [Change(what, n, one.get(n), two.get(n)) for n in names if one.get(n) != two.get(n)]
