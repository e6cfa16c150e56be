"""Phi-3: the Llama line with fused query-key-value and gate-up projections, and rotary on a part of each head.

Source: Abdin et al. 2024, "Phi-3 Technical Report".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from archtool.families.base import uniform
from archtool.families.config import Config
from archtool.families.decoder import common, norm_names, operators
from archtool.families.llama import Llama
from archtool.families.names import Entry, linear
from archtool.families.rope import read_rotary, write_rotary
from archtool.families.windows import window_of
from archtool.ir.architecture import Architecture, Layer
from archtool.operators.attention import Attention
from archtool.operators.glu import Glu
from archtool.operators.rotary import CONTEXT, Rotary


class Phi3(Llama):
    """Reads and writes Phi-3 (and Phi-4, which has the same class)."""

    name = "phi3"
    model_types: tuple[str, ...] = ("phi3",)
    classes: ClassVar[Mapping[str, str]] = {"phi3": "Phi3"}
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "phi3": {
            "max_position_embeddings": 4096, "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
            "pad_token_id": 32000,
        }
    }  # fmt: skip
    ignored: tuple[str, ...] = (*Llama.ignored, "resid_pdrop", "embd_pdrop", "original_max_position_embeddings")
    off: ClassVar[Mapping[str, Any]] = {"full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": False}

    def _rotary(self, c: Config, head_dim: int) -> Rotary:
        return read_rotary(c, head_dim, ("default", "longrope"), True, {"su": "longrope", "yarn": "longrope"})

    def _config(self, arch: Architecture) -> dict[str, Any]:
        """The length at which LongRoPE switches stands beside its settings, and wins."""
        rotary = common(op.rotary for op in operators(arch, Attention))
        return {**super()._config(arch), **({CONTEXT: rotary.switch} if rotary and rotary.factors else {})}

    def _biases(self, c: Config) -> tuple[bool, bool]:
        c.expect("attention_bias", (False,), False)
        return False, False

    def _windows(self, c: Config, depth: int) -> list[int]:
        return [window_of(c)] * depth

    def _rope_keys(self, arch: Architecture, rotary: Rotary) -> dict[str, Any]:
        """With the rotated part of each head."""
        turned, head_dim = 2 * rotary.pairs, uniform(arch, "attn.v")
        if not rotary.partial or not head_dim:
            return write_rotary(rotary)
        return {**write_rotary(rotary), "partial_rotary_factor": _fraction(turned, head_dim)}

    def _bias_keys(self, arch: Architecture, mixers: list[Attention], ffns: list[Glu]) -> dict[str, Any]:
        return {}

    def _window_keys(self, arch: Architecture, windows: list[int]) -> dict[str, Any]:
        return {"sliding_window": common(windows) or None}

    def _attn_names(self, at: str, b: str, layer: Layer) -> list[Entry]:
        return [
            *norm_names(f"{at}.input_layernorm", f"{b}.attn.pre", layer.pre),
            *linear(f"{at}.self_attn.qkv_proj", *(f"{b}.attn.{part}" for part in "qkv"), bias=False),
            *linear(f"{at}.self_attn.o_proj", f"{b}.attn.o", bias=False),
        ]

    def _ffn_names(self, at: str, b: str, layer: Layer) -> list[Entry]:
        return [
            *norm_names(f"{at}.post_attention_layernorm", f"{b}.ffn.pre", layer.pre),
            *linear(f"{at}.mlp.gate_up_proj", f"{b}.ffn.gate", f"{b}.ffn.up", bias=False),
            *linear(f"{at}.mlp.down_proj", f"{b}.ffn.down", bias=False),
        ]


def _fraction(turned: int, head_dim: int) -> float:
    """A fraction that truncates to exactly ``turned`` of ``head_dim`` dimensions."""
    exact = turned / head_dim
    return exact if int(head_dim * exact) == turned else (turned + 0.5) / head_dim
