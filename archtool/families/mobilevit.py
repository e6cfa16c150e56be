"""MobileViT (Mehta and Rastegari 2022) under Hugging Face's names: the image classifier and its body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from archtool.errors import InputError
from archtool.families.base import Draft
from archtool.families.config import Config
from archtool.families.conv_names import norm_names
from archtool.families.encoder import plain, self_attention
from archtool.families.mobile_hybrid import POINT, MobileHybrid, Settings, normed
from archtool.families.mobile_sizes import HYBRID, agreed, axis_of, found, numbers, only
from archtool.families.names import Entry, linear
from archtool.ir.architecture import Architecture, Block, Layer, NormSpec
from archtool.operators.act import Act
from archtool.operators.attention import Attention
from archtool.operators.conv import GridConv
from archtool.operators.mlp import Mlp

LINEARS = {
    "attn.q": "attention.attention.query", "attn.k": "attention.attention.key",
    "attn.v": "attention.attention.value", "attn.o": "attention.output.dense",
    "ffn.fc1": "intermediate.dense", "ffn.fc2": "output.dense",
}  # fmt: skip
NORMS = {"attn": "layernorm_before", "ffn": "layernorm_after"}


class MobileVit(MobileHybrid):
    """Reads and writes MobileViT."""

    name = "mobilevit"
    model_types: tuple[str, ...] = ("mobilevit",)
    stem = "MobileViT"
    prefix = "mobilevit."
    defaults: ClassVar[Mapping[str, Any]] = {
        "hidden_sizes": [144, 192, 240], "neck_hidden_sizes": [16, 32, 64, 96, 128, 160, 640],
        "num_attention_heads": 4, "mlp_ratio": 2.0, "expand_ratio": 4.0, "hidden_act": "silu", "qkv_bias": True,
    }  # fmt: skip
    ignored: ClassVar[tuple[str, ...]] = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    uneven = "stretch"
    activated = True

    def _settings(self, c: Config) -> Settings:
        s = Settings(
            widths=numbers(c, "neck_hidden_sizes", self.defaults["neck_hidden_sizes"], 7),
            inner=numbers(c, "hidden_sizes", self.defaults["hidden_sizes"], 3),
            depths=(2, 4, 3),
            counts=(1, 3, 1, 1, 1),
            norm=NormSpec("layer", float(self.value(c, "layer_norm_eps"))),
            **self.common(c),
        )
        if s.kernel % 2 == 0:
            what = f"config.json: conv_kernel_size={s.kernel} shrinks the grid before fusion"
            raise InputError(what, "Use an odd one.")
        return s

    def _mixing(self, c: Config, s: Settings, width: int) -> Sequence[tuple[Layer, Mapping[str, int]]]:
        heads = c.number("num_attention_heads", self.defaults["num_attention_heads"])
        attention, sizes = self_attention(width, heads, bias=bool(self.value(c, "qkv_bias")))
        hidden = int(width * float(self.value(c, "mlp_ratio")))
        return (
            (Layer("attn", attention, pre=s.norm), sizes),
            (Layer("ffn", Mlp(act=s.act), pre=s.norm), {"hidden": hidden}),
        )

    def _fuse(self, draft: Draft, s: Settings, k: int) -> None:
        """The fusion of what entered the patches with what left them; after the last one, the expansion."""
        activated, width = plain("act", Act(act=s.act)), axis_of(draft.sizes, k)
        around = ((s.kernel - 1) // 2,) * 2
        fusion = GridConv(kernel=(s.kernel, s.kernel), padding=around, into=width, bias=False)
        draft.block(f"fuse{k}", normed("conv", fusion), activated, inputs=(f"down{k}", f"fold{k}"))
        if k == HYBRID[-1]:
            draft.sizes["head.width"] = s.widths[-1]
            draft.block("final", normed("conv", GridConv(into="head.width", **POINT)), activated)

    def _config(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        size = arch.size
        necks = [size[axis_of(size, k)] for k in range(6)]
        pairs = [(size[f"m{k}.width"], size[f"{b.name}.ffn.hidden"]) for k in HYBRID for b in arch.stage(f"m{k}")]
        return {
            "neck_hidden_sizes": [*necks, size["head.width"]],
            "hidden_sizes": [size[f"m{k}.width"] for k in HYBRID],
            "num_attention_heads": _heads(arch),
            "mlp_ratio": agreed(pairs, (base.get("mlp_ratio", 2.0),), lambda of, ratio: int(of * ratio)),
            "qkv_bias": only(op.bias for op in found(arch, Attention)),
        }

    def _attention_names(self, at: str, block: Block) -> Iterator[Entry]:
        for layer in block.layers:
            place = f"{block.name}.{layer.name}"
            for part, file in LINEARS.items():
                if part.startswith(f"{layer.name}."):
                    bias = layer.op.bias if isinstance(layer.op, Attention) and part != "attn.o" else True
                    yield from linear(f"{at}.{file}", f"{block.name}.{part}", bias=bias)
            if layer.pre:
                yield from norm_names(f"{at}.{NORMS[layer.name]}", f"{place}.pre", layer.pre)


def _heads(arch: Architecture) -> int | None:
    """The head count, where every layer has width / heads dimensions per head and that scale."""
    counts = set()
    for place in arch.places:
        if isinstance(place.layer.op, Attention):
            kv, group, qk, v = (place.site.size(axis) for axis in ("kv", "group", "qk", "v"))
            width = place.site.stream.size(arch.size)
            said = group == 1 and qk == v and kv * v == width and place.layer.op.scale == v**-0.5
            counts.add(kv if said else None)
    return only(counts)  # type: ignore[no-any-return]
