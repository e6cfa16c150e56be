"""Small models around one operator: what `Operator.samples` returns and the checks of all operators take through.

Every model has a stem, blocks ``b0``, ``b1``, … of stage ``s0``, a final norm, a mean pool and a class head; its
outputs are ``hidden`` (B, T, D) and ``logits`` (B, 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from archtool.ir.architecture import Architecture, Block, Layer, NormSpec
from archtool.ir.operator import Operator
from archtool.operators.dense import Dense
from archtool.operators.patch_stem import PatchStem
from archtool.operators.pool import Pool
from archtool.operators.token_stem import TokenStem

NORM = NormSpec()
Sized = tuple[Layer, Mapping[str, int]]


def branch(op: Operator, **sizes: int) -> Sized:
    """The operator as a pre-norm residual branch ``op``; ``sizes`` are those of its local axes."""
    return Layer("op", op, pre=NORM), sizes


def alone(op: Operator, **sizes: int) -> Sized:
    """The operator without norm and residual (it may change the stream)."""
    return Layer("op", op, residual=False), sizes


def several(*layers: Sized) -> list[Sized]:
    """One residual branch of several layers; the last carries the residual and a gain."""
    *inner, (last, sizes) = [(replace(layer, name=f"op{i}"), sizes) for i, (layer, sizes) in enumerate(layers)]
    return [*inner, (replace(last, residual=True, scale=True, since="op0"), sizes)]


def weighed(sized: Sized) -> list[Sized]:
    """A residual branch with a learned number on the stream and one on the branch."""
    from archtool.operators.gain import Gain

    layer, sizes = sized
    inner = replace(layer, residual=False, source="block")
    return [(Layer("keep", Gain(), residual=False), {}), (inner, sizes), (Layer("gain", Gain(), since=layer.name), {})]


def in_text(*blocks: Sequence[Sized], width: int = 16, sizes: Mapping[str, int] | None = None) -> Architecture:
    """Token ids → stem → blocks of layers → heads; ``sizes`` are those of axes that no layer owns."""
    return model(("input_ids",), _tokens(), blocks, {"vocab": 31, "s0.width": width, **(sizes or {})}, {})


def on_image(
    *blocks: Sequence[Sized], width: int = 16, image: int = 16, patch: int = 2,
    sizes: Mapping[str, int] | None = None, stages: Sequence[str] = (),
) -> Architecture:  # fmt: skip
    """Pixels → patches on a grid of ``image / patch`` → blocks of layers (of the given stages) → heads."""
    stem: Sized = Layer("patches", PatchStem(patch=(patch, patch), tokens=(), positions=False), residual=False), {}
    facts = {"image_height": image, "image_width": image}
    return model(("pixel_values",), stem, blocks, {"channels": 3, "s0.width": width, **(sizes or {})}, facts, stages)


def followed(
    arch: Architecture, op: Operator, inputs: tuple[str, ...] = (), reads: tuple[str, ...] = (), name: str = "op",
    **sizes: int,
) -> Architecture:  # fmt: skip
    """The model with a block ``name`` before its final norm that holds the operator alone, on the given streams."""
    table = dict(arch.sizes)
    added = _block(name, ((Layer("op", op, residual=False, reads=reads), sizes),), table)
    at = arch.index["final"]
    blocks = (*arch.blocks[:at], replace(added, inputs=inputs), *arch.blocks[at:])
    return replace(arch, blocks=blocks, sizes=tuple(table.items()))


def encoder_decoder(op: Operator, **sizes: int) -> Architecture:
    """An encoder and a causal decoder of other widths; every decoder block reads the encoder through ``op``."""
    from archtool.operators.attention import Attention
    from archtool.operators.mlp import Mlp

    seen = branch(Attention(scale=0.5, causal=True), kv=2, group=1, qk=4, v=4)
    (own, own_sizes), (ffn, hidden) = seen, branch(Mlp(act="relu"), hidden=8)
    read = replace(branch(op)[0], reads=("encoded",))
    layers = (replace(own, name="attn"), own_sizes), (read, sizes)
    decoder = model(("decoder_input_ids",), _tokens(), [layers, layers], {"vocab": 31, "s0.width": 16}, {})
    table = {**decoder.size, "words": 29, "s1.width": 12}
    stem: Sized = Layer("tokens", TokenStem(width="s1.width", vocab="words"), residual=False), {}
    encoder = _block("source", (stem,), table), _block("encoded", ((replace(ffn, name="ffn"), hidden),), table)
    first = replace(decoder.blocks[0], inputs=("decoder_input_ids",))
    blocks = (*encoder, first, *decoder.blocks[1:])
    return replace(decoder, inputs=("input_ids", "decoder_input_ids"), blocks=blocks, sizes=tuple(table.items()))


def _tokens() -> Sized:
    return Layer("tokens", TokenStem(), residual=False), {}


def pooled_by(arch: Architecture, op: Operator, **sizes: int) -> Architecture:
    """The model with ``op`` in place of its mean pool."""
    table = dict(arch.sizes)
    head = _block("head", ((Layer("pool", op, residual=False), sizes), (arch.block("head").layers[-1], {})), table)
    blocks = tuple(head if block.name == "head" else block for block in arch.blocks)
    return replace(arch, blocks=blocks, sizes=tuple(table.items()))


def model(
    inputs: tuple[str, ...], stem: Sized, blocks: Sequence[Sequence[Sized]], sizes: Mapping[str, int],
    facts: Mapping[str, int], stages: Sequence[str] = (),
) -> Architecture:  # fmt: skip
    """A model of a given stem; every block is of stage ``s0`` unless ``stages`` names another."""
    table = dict(sizes)
    built = [_block("embed", (stem,), table)]
    built += [_block(f"b{i}", layers, table, stages[i] if stages else "s0") for i, layers in enumerate(blocks)]
    built.append(_block("final", ((Layer("norm", None, pre=NORM, residual=False), {}),), table))
    pool: Sized = Layer("pool", Pool(mode="mean"), residual=False), {}
    built.append(_block("head", (pool, (Layer("score", Dense(), residual=False), {"units": 4})), table))
    outputs = (("hidden", "final"), ("logits", "head"))
    return Architecture("", inputs, tuple(built), tuple(table.items()), outputs, tuple(facts.items()))


def _block(name: str, layers: Sequence[Sized], table: dict[str, int], stage: str = "") -> Block:
    for layer, sizes in layers:
        table.update({f"{name}.{layer.name}.{axis}": n for axis, n in sizes.items()})
    return Block(name, tuple(layer for layer, _ in layers), stage=stage)
