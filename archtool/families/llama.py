"""The Llama line with separate projections: Llama 2/3, Mistral, Qwen2, Qwen3.

Pre-norm RMSNorm, rotary grouped-query attention, gated MLP; with or without biases, query-key norm, sliding
window and tied head. Names are Hugging Face's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from archtool.families.base import Draft, divided, known_activation, uniform
from archtool.families.config import Config
from archtool.families.decoder import Decoder, Sized, common, norm_names, norms, operators, plain
from archtool.families.names import Entry, linear
from archtool.families.rope import read_rotary, write_rotary
from archtool.families.windows import FULL, SLIDING, by_layer, layer_keys, window_of
from archtool.ir.architecture import Architecture, Layer, NormSpec
from archtool.operators.activation import spelled
from archtool.operators.attention import Attention
from archtool.operators.glu import Glu
from archtool.operators.rotary import Rotary
from archtool.operators.token_stem import TokenStem


class Llama(Decoder):
    """Reads and writes the Llama line."""

    name = "llama"
    model_types: tuple[str, ...] = ("llama", "mistral", "qwen2", "qwen3")
    classes: ClassVar[Mapping[str, str]] = {
        "llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3",
    }  # fmt: skip
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "llama": {"max_position_embeddings": 2048},
        "mistral": {"max_position_embeddings": 131072, "num_key_value_heads": 8, "sliding_window": 4096},
        "qwen2": {"max_position_embeddings": 32768, "num_key_value_heads": 32, "sliding_window": 4096},
        "qwen3": {
            "max_position_embeddings": 32768, "num_key_value_heads": 32, "sliding_window": 4096, "head_dim": 128,
        },
    }  # fmt: skip
    ignored: tuple[str, ...] = ("attention_dropout", "hidden_dropout", "pretraining_tp", "classifier_dropout")
    off: ClassVar[Mapping[str, Any]] = {"use_mrope": False, "rope_interleaved": False}
    act_key, act_default = "hidden_act", "silu"

    def _body(self, c: Config, draft: Draft) -> None:
        draft.facts["max_positions"] = c.number("max_position_embeddings")
        draft.sizes.update({"vocab": c.number("vocab_size"), "s0.width": c.number("hidden_size")})
        draft.block("embed", plain("tokens", self._stem(c)))
        attention, sizes = self._attention(c)
        for i, window in enumerate(self._windows(c, c.number("num_hidden_layers"))):
            draft.block(f"b{i}", *self._block(c, replace(attention, window=window), sizes), stage="s0")

    def _stem(self, c: Config) -> TokenStem:
        return TokenStem()

    def _norm(self, c: Config) -> NormSpec:
        return NormSpec("rms", float(c.take("rms_norm_eps", 1e-6)), bias=False)

    def _attention(self, c: Config) -> tuple[Attention, dict[str, int]]:
        heads, width = c.number("num_attention_heads"), c.number("hidden_size")
        kv = c.number("num_key_value_heads", heads)
        head_dim = c.take("head_dim", None) or divided(width, heads, "hidden_size over num_attention_heads")
        rotary = self._rotary(c, head_dim)
        plain_dims = {"qk": head_dim - 2 * rotary.pairs} if rotary.partial else {}
        bias, out_bias = self._biases(c)
        op = Attention(
            scale=self._scale(c, head_dim), causal=True, rotary=rotary, bias=bias, out_bias=out_bias,
            qk_norm=self._norm(c) if c.take("model_type") == "qwen3" else None,
        )  # fmt: skip
        sizes = {"kv": kv, "group": divided(heads, kv, "num_attention_heads over num_key_value_heads")}
        return op, {**sizes, "pairs": rotary.pairs, **plain_dims, "v": head_dim}

    def _rotary(self, c: Config, head_dim: int) -> Rotary:
        return read_rotary(c, head_dim)

    def _scale(self, c: Config, head_dim: int) -> float:
        return float(head_dim**-0.5)

    def _biases(self, c: Config) -> tuple[bool, bool]:
        """Biases on q, k, v and on the output projection; some classes have them fixed."""
        fixed = {"mistral": False, "qwen2": True}.get(c.take("model_type"))
        if fixed is not None:
            return bool(c.expect("attention_bias", (fixed,), fixed)), False
        said = bool(c.take("attention_bias", False))
        return said, said

    def _mlp_bias(self, c: Config) -> bool:
        return bool(c.expect("mlp_bias", (False, True) if c.take("model_type") == "llama" else (False,), False))

    def _windows(self, c: Config, depth: int) -> list[int]:
        """The sliding window of every layer; 0 for none."""
        kind = c.take("model_type")
        if kind == "llama":
            c.expect("sliding_window", (None,), None)
            return [0] * depth
        if kind == "mistral":
            return [window_of(c)] * depth
        on, first = bool(c.take("use_sliding_window", False)), c.take("max_window_layers", 28)
        window = window_of(c) if on else 0
        c.ignore(("sliding_window",))
        return by_layer(c, window, [SLIDING if window and i >= first else FULL for i in range(depth)])

    def _block(self, c: Config, attention: Attention, sizes: Mapping[str, int]) -> tuple[Sized, ...]:
        norm = self._norm(c)
        return (Layer("attn", attention, pre=norm), sizes), (
            Layer("ffn", self._ffn(c), pre=norm),
            self._hidden(c),
        )

    def _ffn(self, c: Config) -> Glu:
        act = known_activation(c.take(self.act_key, self.act_default), self.name)
        return Glu(act=act, bias=self._mlp_bias(c))

    def _hidden(self, c: Config) -> dict[str, int]:
        return {"hidden": c.number("intermediate_size")}

    def _config(self, arch: Architecture) -> dict[str, Any]:
        kv, group = uniform(arch, "attn.kv"), uniform(arch, "attn.group")
        mixers, ffns = operators(arch, Attention), operators(arch, Glu)
        act = common(op.act for op in ffns)
        eps = (n.eps for n in (*norms(arch), *(op.qk_norm for op in mixers if op.qk_norm)))
        rotary = common(op.rotary for op in mixers)
        return {
            "vocab_size": arch.size["vocab"],
            "hidden_size": self._width(arch),
            "num_hidden_layers": len(arch.stage("s0")),
            "num_attention_heads": kv * group if kv and group else None,
            "num_key_value_heads": kv,
            "head_dim": self._head_dim(arch, mixers),
            "intermediate_size": uniform(arch, "ffn.hidden"),
            self.act_key: spelled(act) if act else None,
            "rms_norm_eps": common(eps),
            "max_position_embeddings": arch.fact["max_positions"],
            "rope_parameters": self._rope_keys(arch, rotary) if rotary else None,
            **self._bias_keys(arch, mixers, ffns),
            **self._window_keys(arch, [op.window for op in mixers]),
        }

    def _width(self, arch: Architecture) -> int | None:
        return arch.size["s0.width"]

    def _head_dim(self, arch: Architecture, mixers: list[Attention]) -> int | None:
        """The head dimension where heads are whole: as many frequencies as pairs, and the scale that it implies."""
        pairs, v, qk = (uniform(arch, f"attn.{axis}") for axis in ("pairs", "v", "qk"))
        whole = pairs and v == 2 * pairs + (qk or 0)
        intact = all(op.rotary and op.rotary.pairs == pairs and not op.rotary.kept for op in mixers)
        return v if whole and intact and self._scales_said(arch, mixers, v or 1) else None

    def _scales_said(self, arch: Architecture, mixers: list[Attention], head_dim: int) -> bool:
        return {op.scale for op in mixers} == {head_dim**-0.5}

    def _rope_keys(self, arch: Architecture, rotary: Rotary) -> dict[str, Any]:
        return write_rotary(rotary)

    def _bias_keys(self, arch: Architecture, mixers: list[Attention], ffns: list[Glu]) -> dict[str, Any]:
        kind = arch.fact["model_type"]
        keys = {"attention_bias": common(op.bias for op in mixers)} if kind in ("llama", "qwen3") else {}
        return {**keys, "mlp_bias": common(op.bias for op in ffns)} if kind == "llama" else keys

    def _window_keys(self, arch: Architecture, windows: list[int]) -> dict[str, Any]:
        kind = arch.fact["model_type"]
        if kind == "llama":
            return {}
        if kind == "mistral":
            return {"sliding_window": common(windows) or None}
        keys = layer_keys(windows)
        return {"use_sliding_window": any(windows), **keys} if any(windows) else {"layer_types": keys["layer_types"]}

    def _attn_names(self, at: str, b: str, layer: Layer) -> list[Entry]:
        op = layer.op
        assert isinstance(op, Attention)
        entries = norm_names(f"{at}.input_layernorm", f"{b}.attn.pre", layer.pre)
        for part in "qkv":
            entries += linear(f"{at}.self_attn.{part}_proj", f"{b}.attn.{part}", bias=op.bias)
        entries += linear(f"{at}.self_attn.o_proj", f"{b}.attn.o", bias=op.out_bias)
        for part in "qk":
            entries += norm_names(f"{at}.self_attn.{part}_norm", f"{b}.attn.{part}_norm", op.qk_norm)
        return entries

    def _ffn_names(self, at: str, b: str, layer: Layer) -> list[Entry]:
        op = layer.op
        assert isinstance(op, Glu)
        entries = norm_names(f"{at}.post_attention_layernorm", f"{b}.ffn.pre", layer.pre)
        for part in ("gate", "up", "down"):
            entries += linear(f"{at}.mlp.{part}_proj", f"{b}.ffn.{part}", bias=op.bias)
        return entries

    def carried(self, name: str) -> bool:
        """Old checkpoints store the rotary frequencies, which are derived here."""
        return name.endswith("rotary_emb.inv_freq")

    def carried_axes(self, name: str, arch: Architecture) -> tuple[str, ...]:
        """See `Family.carried_axes`."""
        number = name.partition("layers.")[2].partition(".")[0]
        return (f"{arch.stage('s0')[int(number)].name}.attn.pairs",) if number.isdigit() else ()
