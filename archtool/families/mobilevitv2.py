"""MobileViTv2 (Mehta and Rastegari 2023) under Hugging Face's names: separable attention, no fusion, one multiplier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from archtool.families.config import Config
from archtool.families.conv_names import norm_names
from archtool.families.mobile_hybrid import MobileHybrid, Settings
from archtool.families.mobile_sizes import HYBRID, axis_of, numbers, rounded
from archtool.families.names import Entry, linear
from archtool.ir.architecture import Architecture, Block, Layer, NormSpec
from archtool.operators.mlp import Mlp
from archtool.operators.separable import Separable

STREAMS = (64, 128, 256, 384, 512)
NORMS = {"attn": "layernorm_before", "ffn": "layernorm_after"}


class MobileVitV2(MobileHybrid):
    """Reads and writes MobileViTv2."""

    name = "mobilevitv2"
    model_types: tuple[str, ...] = ("mobilevitv2",)
    stem = "MobileViTV2"
    prefix = "mobilevitv2."
    defaults: ClassVar[Mapping[str, Any]] = {
        "expand_ratio": 2.0, "hidden_act": "swish", "n_attn_blocks": [2, 4, 3],
        "base_attn_unit_dims": [128, 192, 256], "width_multiplier": 1.0, "ffn_multiplier": 2,
    }  # fmt: skip
    ignored: ClassVar[tuple[str, ...]] = ("attn_dropout", "ffn_dropout")
    uneven = "crop"
    cut = False
    depthwise = True

    def _settings(self, c: Config) -> Settings:
        multiplier = float(self.value(c, "width_multiplier"))
        bases = numbers(c, "base_attn_unit_dims", self.defaults["base_attn_unit_dims"], 3)
        return Settings(
            widths=streams(multiplier),
            inner=tuple(rounded(width * multiplier) for width in bases),
            depths=numbers(c, "n_attn_blocks", self.defaults["n_attn_blocks"], 3),
            counts=(1, 2, 1, 1, 1),
            norm=NormSpec("group", float(self.value(c, "layer_norm_eps"))),
            **self.common(c),
        )

    def _mixing(self, c: Config, s: Settings, width: int) -> Sequence[tuple[Layer, Mapping[str, int]]]:
        hidden = hidden_of(width, c.number("ffn_multiplier", self.defaults["ffn_multiplier"]))
        return (
            (Layer("attn", Separable(runs=s.patch**2), pre=s.norm), {"v": width}),
            (Layer("ffn", Mlp(act=s.act), pre=s.norm), {"hidden": hidden}),
        )

    def _config(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        said = {**self.defaults, **{key: value for key, value in base.items() if value is not None}}
        size, multiplier = arch.size, _multiplier(arch, float(said["width_multiplier"]))
        inner = [size[f"m{k}.width"] for k in HYBRID]
        pairs = [(size[f"m{k}.width"], size[f"{b.name}.ffn.hidden"]) for k in HYBRID for b in arch.stage(f"m{k}")]
        factors = (said["ffn_multiplier"], *range(1, 9))
        bases = None if multiplier is None else _bases(inner, said["base_attn_unit_dims"], multiplier)
        return {
            "width_multiplier": multiplier,
            "base_attn_unit_dims": bases,
            "n_attn_blocks": [len(arch.stage(f"m{k}")) for k in HYBRID],
            "ffn_multiplier": next((n for n in factors if all(hidden_of(of, n) == width for of, width in pairs)), None),
        }

    def _attention_names(self, at: str, block: Block) -> Iterator[Entry]:
        for layer in block.layers:
            place, op = f"{block.name}.{layer.name}", layer.op
            if isinstance(op, Separable):
                fused = [f"{place}.{part}" for part in "qkv"]
                yield from linear(f"{at}.attention.qkv_proj.convolution", *fused, bias=op.bias, trail=2)
                yield from linear(f"{at}.attention.out_proj.convolution", f"{place}.o", bias=op.out_bias, trail=2)
            else:
                for i in (1, 2):
                    yield from linear(f"{at}.ffn.conv{i}.convolution", f"{place}.fc{i}", bias=True, trail=2)
            if layer.pre:
                yield from norm_names(f"{at}.{NORMS[layer.name]}", f"{place}.pre", layer.pre)


def streams(multiplier: float) -> tuple[int, ...]:
    """Widths of the stem and the five layers."""
    first = rounded(max(16, min(64, 32 * multiplier)), 8, 16)
    return (first, rounded(STREAMS[0] * multiplier, 16), *(rounded(n * multiplier) for n in STREAMS[1:]))


def hidden_of(width: int, multiplier: int) -> int:
    """Inner width of a feed-forward layer: a multiple of 16."""
    return multiplier * width // 16 * 16


def _multiplier(arch: Architecture, said: float) -> float | None:
    """The number from which all stream widths follow: what was said, else the roundest between half and twice one."""
    widths = tuple(arch.size[axis_of(arch.size, k)] for k in range(6))
    near = widths[-1] / STREAMS[-1]
    tried = (i / steps for steps in (4, 20, 100, 1000) for i in range(int(near * steps / 2), int(near * steps * 2) + 1))
    return next((it for it in (said, *tried) if it > 0 and streams(it) == widths), None)


def _bases(inner: Sequence[int], said: Sequence[int], multiplier: float) -> list[int] | None:
    """The widths inside patches before they are multiplied."""
    if [rounded(n * multiplier) for n in said] == list(inner):
        return list(said)
    made = [round(n / multiplier) for n in inner]
    return made if [rounded(n * multiplier) for n in made] == list(inner) else None
