"""OpenNMT translation models (Vaswani et al. 2017, pre-norm) with the tensor names of CTranslate2.

``config.json`` names the model specification, which fixes the number of heads; all other sizes are those of the
tensors. Each side has its vocabulary; positions are sinusoidal, computed, and count from 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archtool.errors import InputError
from archtool.families.base import Draft, Shapes, divided
from archtool.families.config import Config
from archtool.families.decoder import plain
from archtool.families.names import Entry, entry
from archtool.families.seq2seq import INPUTS, STACKS, add_stack, whole_heads
from archtool.ir.architecture import Architecture, Block, NormSpec
from archtool.operators.lm_head import LmHead
from archtool.operators.sinusoid import Sinusoid
from archtool.operators.token_stem import TokenStem

HEADS = {"TransformerBase": 8, "TransformerBig": 16}
POSITIONS = 500
SIDES = {"encoder": ("embed", "vocab", "s0.width"), "decoder": ("decoder_embed", "decoder_vocab", "s1.width")}
"""Stack → its stem, its vocabulary and its stream."""
FUSED = {
    "attn": ("self_attention", ("q", "k", "v"), ("o",)), "cross": ("attention", ("q",), ("k", "v"), ("o",)),
    "ffn": ("ffn", ("fc1",), ("fc2",)),
}  # fmt: skip
"""Layer → its name in the file, and the parts of its linear layers in order."""


class OpenNmt:
    """Reads and writes OpenNMT's encoder-decoders."""

    name = "opennmt"
    model_types: tuple[str, ...] = ()

    def detects(self, config: Mapping[str, Any], shapes: Shapes) -> bool:
        """Whether the configuration names one of these specifications."""
        return config.get("spec") in HEADS

    def read(self, config: Mapping[str, Any], shapes: Shapes) -> Architecture:
        """See `Family.read`."""
        c, draft = Config(config, self.name), Draft(self.name, INPUTS)
        heads = HEADS[c.expect("spec", tuple(HEADS), "TransformerBase")]
        c.expect("revision", (2,), 2)
        c.expect("scalars", ({},), {})
        c.ignore(("arch", "ct2_binary_version"))
        c.finish()
        draft.facts["max_positions"] = POSITIONS
        for stack, (stem, vocab, width) in SIDES.items():
            words, channels = _shape(shapes, f"{stack}/embeddings/weight")
            draft.sizes.update({vocab: words, width: channels})
            sinusoid = Sinusoid(channels, POSITIONS + 1, channels // 2 - 1)
            table = TokenStem(
                width=width, vocab=vocab, scale=float(channels**0.5), sinusoid=sinusoid, first_position=1
            )  # fmt: skip
            draft.block(stem, plain("tokens", table), inputs=INPUTS[1:] if stack == "decoder" else ())
            each = divided(channels, heads, "width over the specification's heads")
            sizes = {"kv": heads, "group": 1, "qk": each, "v": each}
            hidden = _shape(shapes, f"{stack}/layer_0/ffn/linear_0/weight")[0]
            depth = len({name.split("/")[1] for name in shapes if name.startswith(f"{stack}/layer_")} - {"layer_norm"})
            add_stack(draft, stack, depth, sizes, hidden, "relu", NormSpec(), post=False)
        draft.output("hidden", "final")
        draft.block("head", plain("lm", LmHead(vocab="decoder_vocab", bias=True)))
        draft.output("logits", "head")
        return draft.done()

    def write(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.write`; the specification is None where no one has these heads."""
        heads = {whole_heads(arch, STACKS[stack][1], width) for stack, (_, _, width) in SIDES.items()}
        specs = [spec for spec, count in HEADS.items() if heads == {count}]
        return {**(base or {"revision": 2, "scalars": {}}), "spec": specs[0] if specs else None}

    def names(self, arch: Architecture) -> tuple[Entry, ...]:
        """See `Family.names`."""
        entries: list[Entry] = []
        for stack, (stem, _, _) in SIDES.items():
            _, stage, last = STACKS[stack]
            entries.append(entry(f"{stack}/embeddings/weight", f"{stem}.tokens.token.weight"))
            for i, block in enumerate(arch.stage(stage)):
                entries += _block_names(f"{stack}/layer_{i}", block)
            entries += _norm(f"{stack}/layer_norm", f"{last}.norm.pre")
        return (*entries, *(entry(f"decoder/projection/{leaf}", f"head.lm.proj.{leaf}") for leaf in LEAVES))

    def carried(self, name: str) -> bool:
        """Nothing is kept verbatim."""
        return False

    def carried_axes(self, name: str, arch: Architecture) -> tuple[str, ...]:
        """See `Family.carried_axes`."""
        return ()


LEAVES = ("weight", "bias")


def _shape(shapes: Shapes, name: str) -> tuple[int, ...]:
    """A tensor's shape; `InputError` where it is missing."""
    if name not in shapes:
        raise InputError(f"the file holds no {name}", "Its sizes are needed: this family reads them from the tensors.")
    return shapes[name]


def _norm(file: str, part: str) -> list[Entry]:
    return [entry(f"{file}/gamma", f"{part}.weight"), entry(f"{file}/beta", f"{part}.bias")]


def _block_names(at: str, block: Block) -> list[Entry]:
    entries: list[Entry] = []
    for layer in block.layers:
        module, *linears = FUSED[layer.name]
        ours = f"{block.name}.{layer.name}"
        entries += _norm(f"{at}/{module}/layer_norm", f"{ours}.pre")
        for i, parts in enumerate(linears):
            entries += [
                entry(f"{at}/{module}/linear_{i}/{leaf}", *(f"{ours}.{part}.{leaf}" for part in parts))
                for leaf in LEAVES
            ]
    return entries
