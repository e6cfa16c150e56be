"""Which operator kinds there are, by name, without importing them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from archtool.errors import InputError
from archtool.ir.operator import Operator

BUILT_IN: Mapping[str, str] = {
    "mix.attn": "archtool.operators.attention:Attention",
    "ffn.mlp": "archtool.operators.mlp:Mlp",
    "ffn.glu": "archtool.operators.glu:Glu",
    "stem.token": "archtool.operators.token_stem:TokenStem",
    "stem.patch": "archtool.operators.patch_stem:PatchStem",
    "head.lm": "archtool.operators.lm_head:LmHead",
    "head.dense": "archtool.operators.dense:Dense",
    "head.pool": "archtool.operators.pool:Pool",
    "topo.average": "archtool.operators.average:Average",
}


def operator_class(kind: str) -> type[Operator]:
    """The operator of that kind."""
    if kind not in BUILT_IN:
        raise InputError(f"unknown operator {kind!r}", f"Known operators: {', '.join(sorted(BUILT_IN))}.")
    module, _, name = BUILT_IN[kind].partition(":")
    found: type[Operator] = getattr(import_module(module), name)
    return found
