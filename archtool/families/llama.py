"""The Llama line with separate projections: Llama 2/3, Mistral, Qwen2, Qwen3.

Pre-norm RMSNorm, rotary grouped-query attention, gated MLP; with or without biases, query-key norm, sliding
window and tied head. Names are Hugging Face's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archtool.families.base import Draft, Shapes, divided, known_activation, overlay, uniform
from archtool.families.config import Config
from archtool.families.names import Entry, entry, linear
from archtool.families.rope import read_rotary
from archtool.ir.architecture import Architecture, Block, Layer, NormSpec
from archtool.operators.attention import Attention
from archtool.operators.dense import Dense
from archtool.operators.glu import Glu
from archtool.operators.lm_head import LmHead
from archtool.operators.pool import Pool
from archtool.operators.token_stem import TokenStem

IGNORED = ("attention_dropout", "hidden_dropout", "pretraining_tp", "max_window_layers", "classifier_dropout")


class Llama:
    """Reads and writes the Llama line."""

    name = "llama"
    model_types: tuple[str, ...] = ("llama", "mistral", "qwen2", "qwen3")

    def read(self, config: Mapping[str, Any], shapes: Shapes) -> Architecture:
        """See `Family.read`."""
        c = Config(config, self.name)
        draft = Draft(self.name, ("input_ids",))
        draft.facts.update(model_type=c.take("model_type"), prefix=_prefix(shapes))
        draft.facts["max_positions"] = c.number("max_position_embeddings", 2048)
        self._sizes(c, draft)
        draft.block("embed", (self._stem(c), {}))
        attention, sizes = self._attention(c)
        for i in range(c.number("num_hidden_layers")):
            draft.block(f"b{i}", *self._block(c, _windowed(attention, c, i), sizes), stage="s0")
        self._heads(c, draft, shapes)
        c.ignore(IGNORED)
        c.finish()
        return draft.done()

    def _sizes(self, c: Config, draft: Draft) -> None:
        draft.sizes.update({"vocab": c.number("vocab_size"), "s0.width": c.number("hidden_size")})

    def _stem(self, c: Config) -> Layer:
        return Layer("tokens", TokenStem(), residual=False)

    def _norm(self, c: Config) -> NormSpec:
        return NormSpec("rms", float(c.take("rms_norm_eps", 1e-6)), bias=False)

    def _attention(self, c: Config) -> tuple[Attention, dict[str, int]]:
        heads, width = c.number("num_attention_heads"), c.number("hidden_size")
        kv = c.number("num_key_value_heads", heads)
        head_dim = c.take("head_dim", None) or divided(width, heads, "hidden_size over num_attention_heads")
        rotary = read_rotary(c, head_dim)
        plain = {"qk": head_dim - 2 * rotary.pairs} if rotary.partial else {}
        qwen2 = c.take("model_type") == "qwen2"
        bias = bool(c.take("attention_bias", qwen2))
        op = Attention(
            scale=head_dim**-0.5, causal=True, rotary=rotary, bias=bias, out_bias=bias and not qwen2,
            qk_norm=self._norm(c) if c.take("model_type") == "qwen3" else None,
        )  # fmt: skip
        sizes = {"kv": kv, "group": divided(heads, kv, "num_attention_heads over num_key_value_heads")}
        return op, {**sizes, "pairs": rotary.pairs, **plain, "v": head_dim}

    def _block(
        self, c: Config, attention: Attention, sizes: Mapping[str, int]
    ) -> tuple[tuple[Layer, Mapping[str, int]], ...]:
        norm = self._norm(c)
        act = known_activation(c.take("hidden_act", "silu"), self.name)
        ffn = Glu(act=act, bias=bool(c.take("mlp_bias", False)))
        hidden = {"hidden": c.number("intermediate_size")}
        return (Layer("attn", attention, pre=norm), sizes), (Layer("ffn", ffn, pre=norm), hidden)

    def _heads(self, c: Config, draft: Draft, shapes: Shapes) -> None:
        draft.block("final", (Layer("norm", None, pre=self._norm(c), residual=False), {}))
        draft.output("hidden", "final")
        tied = bool(c.take("tie_word_embeddings", False))
        kind = _kind(c, shapes, tied)
        if kind == "lm":
            head = LmHead(tie="embed.tokens.token" if tied else "", softcap=self._softcap(c))
            draft.block("head", (Layer("lm", head, residual=False), {}))
            draft.output("logits", "head")
        elif kind == "class":
            score = Layer("score", Dense(bias=False), residual=False)
            draft.block("score", (score, {"units": shapes["score.weight"][0]}))
            draft.block(
                "head", (Layer("last", Pool(mode="last", pad_id=c.take("pad_token_id", -1)), residual=False), {})
            )
            draft.output("logits", "head")

    def _softcap(self, c: Config) -> float:
        return 0.0

    def write(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.write`; sizes that differ between blocks are None (the dialect decides how to say them)."""
        kv, group = uniform(arch, "attn.kv"), uniform(arch, "attn.group")
        pairs, v = uniform(arch, "attn.pairs"), uniform(arch, "attn.v")
        qk = uniform(arch, "attn.qk") or 0
        same = pairs is not None and 2 * pairs + qk == v
        heads = kv * group if kv and group else None
        derived = {
            "vocab_size": arch.size["vocab"],
            "hidden_size": arch.size["s0.width"],
            "num_hidden_layers": len(arch.stage("s0")),
            "num_attention_heads": heads,
            "num_key_value_heads": kv,
            "head_dim": v if same else None,
            "intermediate_size": uniform(arch, "ffn.hidden"),
        }
        if "head_dim" not in base and heads and v and heads * v == arch.size["s0.width"] and same:
            del derived["head_dim"]
        return overlay(base, derived)

    def names(self, arch: Architecture) -> tuple[Entry, ...]:
        """See `Family.names`."""
        at = str(arch.fact["prefix"])
        entries = [entry(f"{at}embed_tokens.weight", "embed.tokens.token.weight")]
        for i, block in enumerate(arch.stage("s0")):
            entries += self._block_names(f"{at}layers.{i}", block)
        entries.append(entry(f"{at}norm.weight", "final.norm.pre.weight"))
        blocks = arch.index
        if "head" in blocks and "score" not in blocks and not _tied(arch):
            entries.append(entry("lm_head.weight", "head.lm.proj.weight"))
        if "score" in blocks:
            entries.append(entry("score.weight", "score.score.proj.weight"))
        return tuple(entries)

    def _block_names(self, at: str, block: Block) -> list[Entry]:
        entries: list[Entry] = []
        for layer in block.layers:
            entries += {"attn": self._attn_names, "ffn": self._ffn_names}[layer.name](at, block.name, layer)
        return entries

    def _attn_names(self, at: str, b: str, layer: Layer) -> list[Entry]:
        op = layer.op
        assert isinstance(op, Attention)
        entries = [entry(f"{at}.input_layernorm.weight", f"{b}.attn.pre.weight")]
        for part in "qkv":
            entries += linear(f"{at}.self_attn.{part}_proj", f"{b}.attn.{part}", bias=op.bias)
        entries += linear(f"{at}.self_attn.o_proj", f"{b}.attn.o", bias=op.out_bias)
        if op.qk_norm:
            entries += [entry(f"{at}.self_attn.{p}_norm.weight", f"{b}.attn.{p}_norm.weight") for p in "qk"]
        return entries

    def _ffn_names(self, at: str, b: str, layer: Layer) -> list[Entry]:
        op = layer.op
        assert isinstance(op, Glu)
        entries = [entry(f"{at}.post_attention_layernorm.weight", f"{b}.ffn.pre.weight")]
        for part in ("gate", "up", "down"):
            entries += linear(f"{at}.mlp.{part}_proj", f"{b}.ffn.{part}", bias=op.bias)
        return entries

    def carried(self, name: str) -> bool:
        """Old checkpoints store the rotary frequencies, which are derived here."""
        return name.endswith("rotary_emb.inv_freq")


def _prefix(shapes: Shapes) -> str:
    return "model." if not shapes or any(name.startswith("model.") for name in shapes) else ""


def _kind(c: Config, shapes: Shapes, tied: bool) -> str:
    """Which head the file has: ``"lm"``, ``"class"`` or none."""
    if "score.weight" in shapes:
        return "class"
    if "lm_head.weight" in shapes or not shapes:
        return "lm"
    return "lm" if tied and _prefix(shapes) else ""


def _tied(arch: Architecture) -> bool:
    op = arch.block("head").layers[0].op
    return isinstance(op, LmHead) and bool(op.tie)


def _windowed(attention: Attention, c: Config, layer: int) -> Attention:
    """Sliding window where the configuration turns it on for this layer."""
    from dataclasses import replace

    window = c.take("sliding_window", None)
    kinds = c.take("layer_types", None)
    on = c.take("use_sliding_window", c.take("model_type") == "mistral")
    if kinds is not None:
        on = kinds[layer] == "sliding_attention"
    elif on and c.take("model_type") in ("qwen2", "qwen3"):
        on = layer >= c.take("max_window_layers", 28)
    return replace(attention, window=window) if on and window else attention
