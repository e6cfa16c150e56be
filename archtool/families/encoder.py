"""What encoders of text and of images share: blocks, heads, and how a configuration says their sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archtool.families.base import Draft, Shapes, divided, overlay, uniform
from archtool.families.config import Config
from archtool.families.names import Entry, entry
from archtool.ir.architecture import Architecture, Block, Layer, NormSpec
from archtool.operators.activation import canonical
from archtool.operators.attention import Attention
from archtool.operators.dense import Dense
from archtool.operators.mlp import Mlp

HF_ACTIVATIONS = {"gelu_tanh": "gelu_pytorch_tanh", "identity": "linear"}
ABSENT = object()


def self_attention(
    width: int, heads: int, *, bias: bool = True, out_bias: bool = True, qk_norm: NormSpec | None = None
) -> tuple[Attention, dict[str, int]]:
    """Bidirectional multi-head attention with the sizes of its axes."""
    head_dim = divided(width, heads, "stream width over number of heads")
    op = Attention(scale=head_dim**-0.5, bias=bias, out_bias=out_bias, qk_norm=qk_norm)
    return op, {"kv": heads, "group": 1, "qk": head_dim, "v": head_dim}


def add_blocks(
    draft: Draft,
    count: int,
    attention: tuple[Attention, Mapping[str, int]],
    ffn: tuple[Mlp, int],
    norm: NormSpec,
    *,
    post: bool,
    scale: bool = False,
) -> None:
    """Add ``count`` attention + MLP blocks: norms after the residual sum (``post``) or in front."""
    where: dict[str, Any] = {"post": norm} if post else {"pre": norm, "scale": scale}
    (attn, sizes), (mlp, hidden) = attention, ffn
    layers = (Layer("attn", attn, **where), sizes), (Layer("ffn", mlp, **where), {"hidden": hidden})
    for i in range(count):
        draft.block(f"b{i}", *layers, stage="s0")


def add_final(draft: Draft, norm: NormSpec | None = None) -> None:
    """The last hidden state, normalised or as it is, as a block of its own that heads refer to."""
    draft.block("final", (Layer("norm", None, pre=norm, residual=False), {}))
    draft.output("hidden", "final")


def plain(name: str, op: Any, post: NormSpec | None = None, **sizes: int) -> tuple[Layer, dict[str, int]]:
    """A layer without a residual, as stems and heads have them, with its local sizes."""
    return Layer(name, op, post=post, residual=False), sizes


def norm_names(file: str, part: str, leaves: tuple[str, str] = ("weight", "bias")) -> list[Entry]:
    """Gain and bias of a LayerNorm under the file's own leaf names."""
    return [entry(f"{file}.{leaf}", f"{part}.{ours}") for leaf, ours in zip(leaves, ("weight", "bias"), strict=True)]


def stock_heads(arch: Architecture) -> int | None:
    """The head count where every head has width / heads dimensions and that scale; None elsewhere."""
    sizes = [uniform(arch, f"attn.{axis}") for axis in ("kv", "group", "qk", "v")]
    scales = {layer.op.scale for b in arch.stage("s0") for layer in b.layers if isinstance(layer.op, Attention)}
    kv, group, qk, v = (n or 0 for n in sizes)
    said = group == 1 and qk == v and kv * v == arch.size["s0.width"] and scales == {v**-0.5}
    return kv if said else None


def stock_width(arch: Architecture, *square: str) -> int | None:
    """The stream width, or None where a ``square`` layer (``"pooler.dense"``) has left it behind."""
    width = arch.size["s0.width"]
    return width if all(arch.size.get(f"{name}.units", width) == width for name in square) else None


def activation_name(arch: Architecture, said: Any) -> str | None:
    """The MLPs' activation as Hugging Face spells it; ``said`` is kept where it means the same."""
    acts = {layer.op.act for b in _staged(arch) for layer in b.layers if isinstance(layer.op, Mlp)}
    act = acts.pop() if len(acts) == 1 else None
    if said is not None and canonical(str(said)) == act:
        return str(said)
    return None if act is None else HF_ACTIVATIONS.get(act, act)


def layer_eps(arch: Architecture) -> float | None:
    """The common epsilon of the blocks' norms."""
    norms = (n for b in _staged(arch) for layer in b.layers for n in (layer.pre, layer.post) if n)
    found = {n.eps for n in norms}
    return found.pop() if len(found) == 1 else None


def _staged(arch: Architecture) -> list[Block]:
    return [block for blocks in arch.stages.values() for block in blocks]


def dense_of(arch: Architecture, block: str) -> Dense:
    """The dense layer of a head block."""
    ops = [layer.op for layer in arch.block(block).layers if isinstance(layer.op, Dense)]
    return ops[-1]


def class_count(c: Config, shapes: Shapes, weight: str) -> int:
    """Number of classes: rows of the classifier, or what the configuration says."""
    if weight in shapes:
        return shapes[weight][0]
    return said_classes(c.values)


def said_classes(config: Mapping[str, Any]) -> int:
    """Number of classes of a configuration (0: no classifier); Hugging Face's default is 2."""
    labels, count = config.get("id2label"), config.get("num_labels")
    return len(labels) if labels is not None else int(2 if count is None else count)


def label_keys(base: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """``id2label`` and ``label2id`` where the base says another number of classes."""
    if said_classes(base) == classes:
        return {}
    names = {str(i): f"LABEL_{i}" for i in range(classes)}
    return {"id2label": names, "label2id": {name: int(i) for i, name in names.items()}}


def settled(base: Mapping[str, Any], derived: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`overlay`, where a base may leave out (or null) what is at the class' default anyway."""
    kept = {
        key: value
        for key, value in derived.items()
        if not base or base.get(key) is not None or value != defaults.get(key, ABSENT)
    }
    return overlay(base, kept)
