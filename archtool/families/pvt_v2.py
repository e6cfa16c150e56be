"""PVT v2 (Wang et al. 2022): strided or pooled (linear) attention, image classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from archtool.families.config import Config
from archtool.families.pyramid import DEFAULTS, Pyramid, common, mixers, stage_count
from archtool.families.vision_encoder import said_pair
from archtool.ir.architecture import Architecture
from archtool.operators.conv_mlp import ConvMlp

POOL = 7
"""Rows and columns of the grid that linear attention pools to."""


class PvtV2(Pyramid):
    """Reads and writes PVT v2: body, image classifier."""

    name = "pvt_v2"
    model_types: tuple[str, ...] = ("pvt_v2",)
    stem = "PvtV2"
    prefix = "pvt_v2."
    patch_file = "{at}encoder.layers.{i}.patch_embedding"
    block_file = "{at}encoder.layers.{i}.blocks.{j}"
    norm_file = "{at}encoder.layers.{i}.layer_norm"
    defaults: ClassVar[Mapping[str, Any]] = {**DEFAULTS, "mlp_ratios": [8, 8, 4, 4]}
    attention_files: ClassVar[Mapping[str, str]] = {
        "q": "attention.query", "k": "attention.key", "v": "attention.value", "o": "attention.proj",
        "reduce": "attention.spatial_reduction", "norm": "attention.layer_norm",
    }  # fmt: skip

    def _bias(self, c: Config) -> bool:
        return bool(c.take("qkv_bias", True))

    def _reduction(self, c: Config, ratio: int) -> dict[str, Any]:
        linear = c.take("linear_attention", False)
        return {"pool": POOL, "act": "gelu"} if linear else super()._reduction(c, ratio)

    def _ffn(self, c: Config) -> ConvMlp:
        inner = "relu" if c.take("linear_attention", False) else "identity"
        return replace(super()._ffn(c), inner_act=inner)

    def _further(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        ops = [op for i in range(stage_count(arch)) for op in mixers(arch, i)]
        image = (int(arch.fact["image_height"]), int(arch.fact["image_width"]))
        return {
            "image_size": said_pair(image, base.get("image_size", [])),
            "layer_norm_eps": common(layer.pre.eps for b in arch.blocks for layer in b.layers if layer.pre),
            "qkv_bias": common(op.bias for op in ops),
            "linear_attention": common(bool(getattr(op, "pool", 0)) for op in ops),
        }
