"""StarCoder2: a decoder like Llama's, with LayerNorm and a plain two-layer perceptron."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from archtool.families.base import Draft, divided, known_activation, uniform
from archtool.families.config import Config
from archtool.families.decoder import Decoder, norm_names, operators, plain
from archtool.families.names import Entry, linear
from archtool.families.rope import read_rotary, write_rotary
from archtool.families.windows import window_of
from archtool.ir.architecture import Architecture, Layer, NormSpec
from archtool.operators.activation import spelled
from archtool.operators.attention import Attention
from archtool.operators.mlp import Mlp
from archtool.operators.token_stem import TokenStem


class Starcoder2(Decoder):
    """Reads and writes StarCoder2."""

    name = "starcoder2"
    model_types = ("starcoder2",)
    classes: ClassVar[Mapping[str, str]] = {"starcoder2": "Starcoder2"}
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "starcoder2": {"max_position_embeddings": 4096, "tie_word_embeddings": True},
    }
    ignored = ("attention_dropout", "residual_dropout", "embedding_dropout")

    def _norm(self, c: Config) -> NormSpec:
        return NormSpec("layer", float(c.take("norm_epsilon", 1e-5)))

    def _body(self, c: Config, draft: Draft) -> None:
        width, heads = c.number("hidden_size"), c.number("num_attention_heads")
        kv = c.number("num_key_value_heads", 2)
        head_dim = divided(width, heads, "hidden_size over num_attention_heads")
        bias, rotary = bool(c.take("use_bias", True)), read_rotary(c, head_dim)
        draft.facts["max_positions"] = c.number("max_position_embeddings")
        draft.sizes.update({"vocab": c.number("vocab_size"), "s0.width": width})
        draft.block("embed", plain("tokens", TokenStem()))
        attention = Attention(
            scale=head_dim**-0.5, causal=True, window=window_of(c), rotary=rotary, bias=bias, out_bias=bias
        )
        sizes = {"kv": kv, "group": divided(heads, kv, "heads over kv heads"), "pairs": rotary.pairs, "v": head_dim}
        ffn = Mlp(act=known_activation(c.take("hidden_act"), self.name), bias=bias)
        norm, hidden = self._norm(c), {"hidden": c.number("intermediate_size")}
        for i in range(c.number("num_hidden_layers")):
            layers = (Layer("attn", attention, pre=norm), sizes), (Layer("ffn", ffn, pre=norm), hidden)
            draft.block(f"b{i}", *layers, stage="s0")

    def _config(self, arch: Architecture) -> dict[str, Any]:
        attention, ffn = operators(arch, Attention)[0], operators(arch, Mlp)[0]
        last = arch.block("final").layers[0].pre
        assert attention.rotary is not None and last is not None
        kv, group = uniform(arch, "attn.kv"), uniform(arch, "attn.group")
        return {
            "vocab_size": arch.size["vocab"],
            "hidden_size": arch.size["s0.width"],
            "num_hidden_layers": len(arch.stage("s0")),
            "num_attention_heads": kv * group if kv and group else None,
            "num_key_value_heads": kv,
            "intermediate_size": uniform(arch, "ffn.hidden"),
            "hidden_act": spelled(ffn.act),
            "norm_epsilon": last.eps,
            "use_bias": ffn.bias,
            "sliding_window": attention.window or None,
            "max_position_embeddings": arch.fact["max_positions"],
            "rope_parameters": write_rotary(attention.rotary),
        }

    def _attn_names(self, at: str, b: str, layer: Layer) -> list[Entry]:
        assert isinstance(layer.op, Attention)
        entries = norm_names(f"{at}.input_layernorm", f"{b}.attn.pre", layer.pre)
        for part in "qkvo":
            entries += linear(f"{at}.self_attn.{part}_proj", f"{b}.attn.{part}", bias=layer.op.bias)
        return entries

    def _ffn_names(self, at: str, b: str, layer: Layer) -> list[Entry]:
        assert isinstance(layer.op, Mlp)
        entries = norm_names(f"{at}.post_attention_layernorm", f"{b}.ffn.pre", layer.pre)
        entries += linear(f"{at}.mlp.c_fc", f"{b}.ffn.fc1", bias=layer.op.bias)
        return entries + linear(f"{at}.mlp.c_proj", f"{b}.ffn.fc2", bias=layer.op.bias)
