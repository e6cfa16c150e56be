"""Marian translation models (Junczys-Dowmunt et al. 2018; OPUS-MT) with Hugging Face names: post-norm LayerNorm.

The word table is shared by both sides and the head, or each side has its own. Positions are sinusoidal and computed;
files that hold position tables are read with these. The head has a bias, which the file calls ``final_logits_bias``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archtool.families.base import Draft, Shapes, divided, known_activation
from archtool.families.config import Config
from archtool.families.decoder import common, norm_names, operators, plain
from archtool.families.encoder import settled
from archtool.families.names import Entry, entry, linear
from archtool.families.seq2seq import INPUTS, STACKS, add_stack, common_size, stems, whole_heads
from archtool.ir.architecture import Architecture, Block, NormSpec
from archtool.operators.activation import canonical, spelled
from archtool.operators.lm_head import LmHead
from archtool.operators.mlp import Mlp
from archtool.operators.sinusoid import Sinusoid
from archtool.operators.token_stem import TokenStem

DEFAULTS: Mapping[str, Any] = {
    "vocab_size": 58101, "max_position_embeddings": 1024, "encoder_layers": 12, "encoder_ffn_dim": 4096,
    "encoder_attention_heads": 16, "decoder_layers": 12, "decoder_ffn_dim": 4096, "decoder_attention_heads": 16,
    "activation_function": "gelu", "d_model": 1024, "scale_embedding": False, "tie_word_embeddings": True,
    "share_encoder_decoder_embeddings": True,
}  # fmt: skip
OFF: Mapping[str, Any] = {
    "normalize_before": False, "normalize_embedding": False, "add_final_layer_norm": False,
    "static_position_embeddings": True,
}  # fmt: skip
IGNORED = (
    "dropout", "attention_dropout", "activation_dropout", "classifier_dropout", "classif_dropout", "init_std",
    "encoder_layerdrop", "decoder_layerdrop", "add_bias_logits", "extra_pos_embeddings", "_num_labels", "model_type",
    "num_hidden_layers", "tie_word_embeddings", "share_encoder_decoder_embeddings", "decoder_vocab_size",
)  # fmt: skip
TABLES = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
PARTS = {
    "attn": ("self_attn", "self_attn_layer_norm"), "cross": ("encoder_attn", "encoder_attn_layer_norm"),
    "ffn": ("", "final_layer_norm"),
}  # fmt: skip
"""Layer → where its linear parts and its norm are, below a block."""
QKVO = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "out_proj": "o"}


class Marian:
    """Reads and writes Marian."""

    name = "marian"
    model_types: tuple[str, ...] = ("marian",)

    def read(self, config: Mapping[str, Any], shapes: Shapes) -> Architecture:
        """See `Family.read`."""
        c = Config({**DEFAULTS, **config}, self.name)
        c.expect("model_type", self.model_types, self.name)
        body = "MarianModel" in (c.take("architectures", None) or [])
        bare = any(name in shapes for name in TABLES) if shapes else body
        at, draft = "" if bare else "model.", Draft(self.name, INPUTS)
        shared, tied = _sharing(c.values)
        held = ",".join(name for name in TABLES if at + name in shapes) or TABLES[0]
        draft.facts.update(prefix=at, max_positions=c.number("max_position_embeddings"), tables=held if shared else "")
        draft.sizes.update({"vocab": c.number("vocab_size"), "s0.width": c.number("d_model")})
        if not shared:
            words = c.number("decoder_vocab_size", draft.sizes["vocab"])
            draft.sizes.update({"decoder_vocab": words, "s1.width": draft.sizes["s0.width"]})
        own = {"vocab": "decoder_vocab", "width": "s1.width"}
        self._stem(c, draft, "encoder", at, shapes, {})
        self._stack(c, draft, "encoder")
        self._stem(c, draft, "decoder", at, shapes, {"tie": "embed.tokens.token"} if shared else own)
        self._stack(c, draft, "decoder")
        draft.output("hidden", "final")
        if not bare:
            self._head(draft, shapes, shared, tied)
        for key, value in OFF.items():
            c.expect(key, (value,), value)
        c.expect("is_encoder_decoder", (True,), True)
        c.ignore(IGNORED)
        c.finish()
        return draft.done()

    def _stem(self, c: Config, draft: Draft, stack: str, at: str, shapes: Shapes, settings: Mapping[str, Any]) -> None:
        width, rows = draft.sizes["s0.width"], int(draft.facts["max_positions"])
        scale = float(width**0.5) if c.take("scale_embedding") else 1.0
        if f"{at}{stack}.embed_positions.weight" in shapes:
            stem = TokenStem(scale=scale, positions="positions", **settings)
            draft.sizes["positions"] = rows
        else:
            stem = TokenStem(scale=scale, sinusoid=Sinusoid(width, rows, width / 2), **settings)
        name, source = ("embed", INPUTS[0]) if stack == "encoder" else ("decoder_embed", INPUTS[1])
        draft.block(name, plain("tokens", stem), inputs=(source,) if stack == "decoder" else ())

    def _stack(self, c: Config, draft: Draft, stack: str) -> None:
        count, width = c.number(f"{stack}_attention_heads"), draft.sizes["s0.width"]
        each = divided(width, count, f"d_model over {stack}_attention_heads")
        heads = {"kv": count, "group": 1, "qk": each, "v": each}
        act = known_activation(c.take("activation_function"), self.name)
        depth, hidden = c.number(f"{stack}_layers"), c.number(f"{stack}_ffn_dim")
        add_stack(draft, stack, depth, heads, hidden, act, NormSpec(), post=True)

    def _head(self, draft: Draft, shapes: Shapes, shared: bool, tied: bool) -> None:
        table = f"{'embed' if shared else 'decoder_embed'}.tokens.token" if tied else ""
        bias = not shapes or "final_logits_bias" in shapes
        draft.facts["head_copy"] = tied and "lm_head.weight" in shapes
        vocab = "vocab" if shared else "decoder_vocab"
        draft.block("head", plain("lm", LmHead(vocab=vocab, tie=table, bias=bias)))
        draft.output("logits", "head")

    def write(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.write`; a size that one number cannot say is None (dialects say it)."""
        widths = {stem.width for stem in stems(arch)}
        acts = common(op.act for stage in ("s0", "s1") for op in operators(arch, Mlp, stage))
        said = base.get("activation_function")
        derived: dict[str, Any] = {
            "model_type": self.name,
            "vocab_size": arch.size["vocab"],
            "decoder_vocab_size": arch.size.get("decoder_vocab", arch.size["vocab"]),
            "d_model": common(arch.size[width] for width in widths),
            "max_position_embeddings": arch.fact["max_positions"],
            "activation_function": said if said and canonical(said) == acts else acts and spelled(acts),
            "scale_embedding": _scaling(arch),
            **_said_sharing(arch, base),
        }
        for stack, (_, stage, _) in STACKS.items():
            width = "s1.width" if stack == "decoder" and "s1.width" in arch.size else "s0.width"
            derived[f"{stack}_layers"] = len(arch.stage(stage))
            derived[f"{stack}_attention_heads"] = whole_heads(arch, stage, width)
            derived[f"{stack}_ffn_dim"] = common_size(arch, "hidden", stages=(stage,))
        if not base:
            derived["architectures"] = ["MarianMTModel" if "head" in arch.index else "MarianModel"]
            derived |= {"is_encoder_decoder": True, "pad_token_id": None}
        return settled(base, derived, {**DEFAULTS, "decoder_vocab_size": derived["vocab_size"]})

    def names(self, arch: Architecture) -> tuple[Entry, ...]:
        """See `Family.names`."""
        at, entries = str(arch.fact["prefix"]), []
        for name in filter(None, str(arch.fact["tables"]).split(",")):
            entries.append(entry(f"{at}{name}", "embed.tokens.token.weight"))
        for (stack, (_, stage, _)), name in zip(STACKS.items(), ("embed", "decoder_embed"), strict=True):
            stem = arch.block(name).layers[0].op
            assert isinstance(stem, TokenStem)
            if not stem.tie and not arch.fact["tables"]:
                entries.append(entry(f"{at}{stack}.embed_tokens.weight", f"{name}.tokens.token.weight"))
            if stem.positions:
                entries.append(entry(f"{at}{stack}.embed_positions.weight", f"{name}.tokens.position.weight"))
            for i, block in enumerate(arch.stage(stage)):
                entries += _block_names(f"{at}{stack}.layers.{i}", block)
        for head in operators(arch, LmHead, ""):
            if not head.tie or arch.fact["head_copy"]:
                entries.append(entry("lm_head.weight", f"{head.tie or 'head.lm.proj'}.weight"))
            if head.bias:
                entries.append(entry("final_logits_bias", "head.lm.proj.bias", lead=1))
        return tuple(entries)

    def carried(self, name: str) -> bool:
        """A shared table that untied models write and do not use."""
        return name.endswith("shared.weight")

    def carried_axes(self, name: str, arch: Architecture) -> tuple[str, ...]:
        """See `Family.carried_axes`."""
        return ("vocab", "s0.width")


def _sharing(config: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether both sides share a word table, and whether the head is tied to the decoder's."""
    tied = config.get("tie_word_embeddings", True) is not False
    return tied and config.get("share_encoder_decoder_embeddings", True) is not False, tied


def _said_sharing(arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of sharing, where ``base`` does not say them already; None where no class shares so."""
    shared = any(stem.tie for stem in stems(arch))
    tied = all(head.tie for head in operators(arch, LmHead, ""))
    if base and _sharing(base) == (shared, tied):
        return {}
    keys = {"share_encoder_decoder_embeddings": shared, "tie_word_embeddings": tied}
    return keys if tied or not shared else {"tie_word_embeddings": None}


def _scaling(arch: Architecture) -> bool | None:
    """Whether word vectors are scaled by the square root of the width; None for another scale."""
    scales = {stem.scale for stem in stems(arch)}
    roots = {float(arch.size[stem.width] ** 0.5) for stem in stems(arch)}
    return False if scales == {1.0} else True if scales == roots else None


def _block_names(at: str, block: Block) -> list[Entry]:
    entries: list[Entry] = []
    for layer in block.layers:
        (module, norm), ours = PARTS[layer.name], f"{block.name}.{layer.name}"
        linears = {"fc1": "fc1", "fc2": "fc2"} if layer.name == "ffn" else QKVO
        for theirs, part in linears.items() if layer.op else ():
            entries += linear(".".join(filter(None, (at, module, theirs))), f"{ours}.{part}", bias=True)
        entries += norm_names(f"{at}.{norm}", f"{ours}.post", layer.post)
    return entries
