"""GPT-2 (Radford et al. 2019): pre-norm LayerNorm, learned positions, weights stored as (in, out).

The released files have no ``transformer.`` prefix although they hold a language model, and carry attention masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any, ClassVar

from archtool.families.base import Draft, divided, known_activation, uniform
from archtool.families.config import Config
from archtool.families.decoder import Decoder, common, norm_names, norms, operators, plain
from archtool.families.names import Entry, entry, linear
from archtool.ir.architecture import Architecture, Layer, NormSpec
from archtool.operators.activation import spelled
from archtool.operators.attention import Attention
from archtool.operators.mlp import Mlp
from archtool.operators.token_stem import TokenStem

SUMMARY = ("type", "use_proj", "activation", "proj_to_labels", "first_dropout")


class Gpt2(Decoder):
    """Reads and writes GPT-2."""

    name = "gpt2"
    model_types: tuple[str, ...] = ("gpt2",)
    classes: ClassVar[Mapping[str, str]] = {"gpt2": "GPT2"}
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "gpt2": {
            "vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12,
            "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True,
        }
    }  # fmt: skip
    body, embed, norm, layers = "transformer.", "wte", "ln_f", "h"
    lm_suffix, token_head = "LMHeadModel", "classifier"
    ignored: tuple[str, ...] = (
        "attn_pdrop", "embd_pdrop", "resid_pdrop", "classifier_dropout", "hidden_dropout", "n_ctx",
        "reorder_and_upcast_attn", *(f"summary_{key}" for key in SUMMARY),
    )  # fmt: skip

    def _body(self, c: Config, draft: Draft) -> None:
        width, heads = c.number("n_embd"), c.number("n_head")
        draft.facts["max_positions"] = c.number("n_positions")
        draft.sizes.update({"vocab": c.number("vocab_size"), "positions": c.number("n_positions"), "s0.width": width})
        draft.block("embed", plain("tokens", TokenStem(positions="positions")))
        head_dim = divided(width, heads, "n_embd over n_head")
        sizes = {"kv": heads, "group": 1, "qk": head_dim, "v": head_dim}
        mlp = Mlp(act=known_activation(c.take("activation_function"), self.name))
        ffn = Layer("ffn", mlp, pre=self._norm(c)), {"hidden": c.number("n_inner", 4 * width)}
        flags = bool(c.take("scale_attn_weights", True)), bool(c.take("scale_attn_by_inverse_layer_idx", False))
        for i in range(c.number("n_layer")):
            attention = Attention(scale=score_scale(head_dim, i, *flags), causal=True)
            draft.block(f"b{i}", (Layer("attn", attention, pre=self._norm(c)), sizes), ffn, stage="s0")

    def _norm(self, c: Config) -> NormSpec:
        return NormSpec("layer", float(c.take("layer_norm_epsilon")))

    def _config(self, arch: Architecture) -> dict[str, Any]:
        act = common(op.act for op in operators(arch, Mlp))
        heads, flags = _heads(arch)
        return {
            "vocab_size": arch.size["vocab"],
            "n_positions": arch.size["positions"],
            "n_embd": arch.size["s0.width"],
            "n_layer": len(arch.stage("s0")),
            "n_head": heads,
            "n_inner": uniform(arch, "ffn.hidden"),
            "activation_function": {"gelu_tanh": "gelu_new"}.get(act, spelled(act)) if act else None,
            "layer_norm_epsilon": common(n.eps for n in norms(arch)),
            "scale_attn_weights": flags[0],
            "scale_attn_by_inverse_layer_idx": flags[1],
        }

    def _stem_names(self, at: str) -> list[Entry]:
        return [*super()._stem_names(at), entry(f"{at}wpe.weight", "embed.tokens.position.weight")]

    def _attn_names(self, at: str, b: str, layer: Layer) -> list[Entry]:
        return [
            *norm_names(f"{at}.ln_1", f"{b}.attn.pre", layer.pre),
            *linear(f"{at}.attn.c_attn", *(f"{b}.attn.{part}" for part in "qkv"), bias=True, transpose=True),
            *linear(f"{at}.attn.c_proj", f"{b}.attn.o", bias=True, transpose=True),
        ]

    def _ffn_names(self, at: str, b: str, layer: Layer) -> list[Entry]:
        return [
            *norm_names(f"{at}.ln_2", f"{b}.ffn.pre", layer.pre),
            *linear(f"{at}.mlp.c_fc", f"{b}.ffn.fc1", bias=True, transpose=True),
            *linear(f"{at}.mlp.c_proj", f"{b}.ffn.fc2", bias=True, transpose=True),
        ]

    def carried(self, name: str) -> bool:
        """Old files hold each layer's causal mask and its fill value."""
        return name.endswith((".attn.bias", ".attn.masked_bias"))

    def carried_axes(self, name: str, arch: Architecture) -> tuple[str, ...]:
        """See `Family.carried_axes`."""
        return ("", "", "positions", "positions") if name.endswith(".attn.bias") else ()


def score_scale(head_dim: int, layer: int, by_width: bool, by_layer: bool) -> float:
    """The factor on a layer's scores: 1/sqrt(head dimension), and 1/(layer number) where that is on."""
    scale = float(head_dim**-0.5) if by_width else 1.0
    return scale / (layer + 1) if by_layer else scale


def _heads(arch: Architecture) -> tuple[int | None, tuple[bool, bool]]:
    """The head count where heads are whole and their scales follow a rule, and the flags of that rule."""
    kv, group, qk, v = (uniform(arch, f"attn.{axis}") for axis in ("kv", "group", "qk", "v"))
    scales = [op.scale for op in operators(arch, Attention)]
    whole = kv and v and group == 1 and qk == v and kv * v == arch.size["s0.width"]
    for flags in product((True, False), (False, True)):
        if whole and scales == [score_scale(v or 1, i, *flags) for i in range(len(scales))]:
            return kv, flags
    return None, (True, False)
