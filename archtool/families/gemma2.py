"""Gemma-2: sandwich RMSNorms with gains stored as gain - 1, scaled embeddings, soft caps, alternating windows.

Source: Gemma Team 2024, "Gemma 2: Improving Open Language Models at a Practical Size", section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from archtool.families.config import Config
from archtool.families.decoder import Sized, common, norm_names, operators
from archtool.families.llama import Llama
from archtool.families.names import Entry
from archtool.families.windows import FULL, SLIDING, by_layer, layer_keys, window_of
from archtool.ir.architecture import Architecture, Layer, NormSpec
from archtool.operators.attention import Attention
from archtool.operators.glu import Glu
from archtool.operators.lm_head import LmHead
from archtool.operators.token_stem import TokenStem


class Gemma2(Llama):
    """Reads and writes Gemma-2."""

    name = "gemma2"
    model_types: tuple[str, ...] = ("gemma2",)
    classes: ClassVar[Mapping[str, str]] = {"gemma2": "Gemma2"}
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "gemma2": {
            "max_position_embeddings": 8192, "num_key_value_heads": 4, "head_dim": 256, "sliding_window": 4096,
            "query_pre_attn_scalar": 256, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
            "tie_word_embeddings": True, "pad_token_id": 0,
        }
    }  # fmt: skip
    ignored = (*Llama.ignored, "hidden_act")
    act_key, act_default = "hidden_activation", "gelu_pytorch_tanh"

    def _stem(self, c: Config) -> TokenStem:
        return TokenStem(scale=c.number("hidden_size") ** 0.5)

    def _norm(self, c: Config) -> NormSpec:
        return replace(super()._norm(c), offset=1.0)

    def _scale(self, c: Config, head_dim: int) -> float:
        return float(c.take("query_pre_attn_scalar") ** -0.5)

    def _softcap(self, c: Config) -> float:
        return float(c.take("final_logit_softcapping", 0.0))

    def _block(self, c: Config, attention: Attention, sizes: Mapping[str, int]) -> tuple[Sized, ...]:
        c.expect("use_bidirectional_attention", (False,), False)
        capped = replace(attention, softcap=float(c.take("attn_logit_softcapping", 0.0)))
        return tuple((replace(layer, branch=layer.pre), n) for layer, n in super()._block(c, capped, sizes))

    def _windows(self, c: Config, depth: int) -> list[int]:
        window = window_of(c)
        c.expect("sliding_window_size", (window, None), None)
        return by_layer(c, window, [FULL if i % 2 else SLIDING for i in range(depth)])

    def _width(self, arch: Architecture) -> int | None:
        """The width, where the embedding's factor is still its root."""
        width = arch.size["s0.width"]
        return width if common(op.scale for op in operators(arch, TokenStem, "")) == width**0.5 else None

    def _scales_said(self, arch: Architecture, mixers: list[Attention], head_dim: int) -> bool:
        return True

    def _config(self, arch: Architecture) -> dict[str, Any]:
        mixers, heads = operators(arch, Attention), operators(arch, LmHead, "")
        scale = common(op.scale for op in mixers)
        keys = {
            "query_pre_attn_scalar": _scalar(scale) if scale else None,
            "attn_logit_softcapping": common(op.softcap for op in mixers) or None,
        }
        if heads:
            keys["final_logit_softcapping"] = heads[0].softcap or None
        return {**super()._config(arch), **keys}

    def _bias_keys(self, arch: Architecture, mixers: list[Attention], ffns: list[Glu]) -> dict[str, Any]:
        return {"attention_bias": common(op.bias for op in mixers)}

    def _window_keys(self, arch: Architecture, windows: list[int]) -> dict[str, Any]:
        return layer_keys(windows)

    def _attn_names(self, at: str, b: str, layer: Layer) -> list[Entry]:
        entries = super()._attn_names(at, b, layer)
        return [*entries, *norm_names(f"{at}.post_attention_layernorm", f"{b}.attn.branch", layer.branch)]

    def _ffn_names(self, at: str, b: str, layer: Layer) -> list[Entry]:
        linears = super()._ffn_names(at, b, replace(layer, pre=None))
        return [
            *norm_names(f"{at}.pre_feedforward_layernorm", f"{b}.ffn.pre", layer.pre),
            *linears,
            *norm_names(f"{at}.post_feedforward_layernorm", f"{b}.ffn.branch", layer.branch),
        ]


def _scalar(scale: float) -> float | int | None:
    """``query_pre_attn_scalar`` of a score scale: the whole number, where there is one that gives it."""
    for scalar in (round(scale**-2), scale**-2):
        if scalar > 0 and scalar**-0.5 == scale:
            return scalar
    return None
