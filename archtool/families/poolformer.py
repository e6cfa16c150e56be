"""PoolFormer (Yu et al. 2022, "MetaFormer Is Actually What You Need for Vision") under Hugging Face's names.

Overlapping patches begin each stage; a block is a pooling mixer and a perceptron, each behind a GroupNorm of one
group and with a gain. The file has the perceptrons as 1 × 1 convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archtool.families.base import Draft, Shapes
from archtool.families.config import Config
from archtool.families.encoder import add_final, class_count, label_keys, norm_names, plain, settled
from archtool.families.names import Entry, entry, linear
from archtool.families.stages import (
    activation_of,
    add_stage_blocks,
    depths,
    image_facts,
    per_stage,
    said_activation,
    scale_value,
    stage_count,
    widths,
)
from archtool.families.vision_encoder import said_pair
from archtool.ir.architecture import Architecture, Block, Layer, NormSpec
from archtool.operators.conv import GridConv
from archtool.operators.conv_stem import ConvStem
from archtool.operators.dense import Dense
from archtool.operators.down_conv import DownConv
from archtool.operators.grid_pool import GridPool
from archtool.operators.mlp import Mlp
from archtool.operators.pool import Pool

DEFAULTS: Mapping[str, Any] = {
    "num_channels": 3, "pool_size": 3, "mlp_ratio": 4.0, "depths": [2, 2, 6, 2], "hidden_sizes": [64, 128, 320, 512],
    "patch_sizes": [7, 3, 3, 3], "strides": [4, 2, 2, 2], "padding": [2, 1, 1, 1], "num_encoder_blocks": 4,
    "hidden_act": "gelu", "use_layer_scale": True, "layer_scale_init_value": 1e-5, "image_size": 224,
}  # fmt: skip
PER_STAGE = ("hidden_sizes", "depths", "patch_sizes", "strides", "padding")
NORM = NormSpec("group", 1e-5)
IGNORED = ("drop_path_rate", "patch_size", "stride", "layer_scale_init_value")


class PoolFormer:
    """Reads and writes PoolFormer: body, image classifier."""

    name = "poolformer"
    model_types: tuple[str, ...] = ("poolformer",)

    def read(self, config: Mapping[str, Any], shapes: Shapes) -> Architecture:
        """See `Family.read`; ``image_size``, which the class does not know, says what costs are stated for."""
        c = Config(config, self.name)
        c.expect("model_type", self.model_types, self.name)
        suffix = str((c.take("architectures", None) or ["Model"])[0]).removeprefix("PoolFormer")
        body = "encoder.patch_embeddings.0.projection.weight" in shapes if shapes else suffix == "Model"
        classifies = "classifier.weight" in shapes if shapes else suffix == "ForImageClassification"
        draft = Draft(self.name, ("pixel_values",))
        draft.facts["prefix"] = "" if body else "poolformer."
        self._body(c, draft)
        add_final(draft)
        if classifies:
            draft.sizes["classes"] = class_count(c, shapes, "classifier.weight")
            norm, score = Layer("norm", None, pre=NORM, residual=False), plain("score", Dense(into="classes"))
            draft.block("head", (norm, {}), plain("mean", Pool(mode="mean")), score, inputs=("final",))
            draft.output("logits", "head")
        c.ignore(IGNORED)
        c.finish()
        return draft.done()

    def _body(self, c: Config, draft: Draft) -> None:
        stages = c.number("num_encoder_blocks", 4)
        image_facts(c, draft)
        draft.sizes["channels"] = c.number("num_channels", 3)
        scaled, size = bool(c.take("use_layer_scale", True)), c.number("pool_size", 3)
        pool = GridPool(kernel=(size, size), padding=(size // 2, size // 2), minus_input=True)
        mixer, ffn = (
            Layer("pool", pool, pre=NORM, scale=scaled),
            Layer("ffn", Mlp(act=activation_of(c)), pre=NORM, scale=scaled),
        )
        ratio = float(c.take("mlp_ratio", 4.0))
        numbers = zip(*(per_stage(c, key, DEFAULTS[key], stages) for key in PER_STAGE), strict=True)
        for i, (width, count, kernel, stride, padding) in enumerate(numbers):
            into = f"s{i}.width"
            draft.sizes[into] = width
            conv = (DownConv if i else ConvStem)(
                kernel=(kernel, kernel), stride=(stride, stride), padding=(padding, padding), into=into
            )
            draft.block(f"down{i}" if i else "embed", plain("patches", conv))
            add_stage_blocks(draft, i, count, (mixer, {}), (ffn, {"hidden": int(width * ratio)}))

    def write(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.write`."""
        convs, pools = patch_convs(arch), _pools(arch)
        image = (int(arch.fact["image_height"]), int(arch.fact["image_width"]))
        value = scale_value(arch, base.get("layer_scale_init_value"), 1e-5)
        derived: dict[str, Any] = {
            "model_type": self.name,
            "num_channels": arch.size["channels"],
            "num_encoder_blocks": stage_count(arch),
            "hidden_sizes": widths(arch),
            "depths": depths(arch),
            "patch_sizes": _said([conv.kernel[0] for conv in convs], base, "patch_sizes"),
            "strides": _said([conv.stride[0] for conv in convs], base, "strides"),
            "padding": _said([conv.padding[0] for conv in convs], base, "padding"),
            "pool_size": pools.pop() if len(pools) == 1 else None if pools else base.get("pool_size"),
            "mlp_ratio": _ratio(arch, base.get("mlp_ratio")),
            "hidden_act": said_activation(arch, base.get("hidden_act")),
            "use_layer_scale": None if value is None else value > 0,
        }
        if image != (DEFAULTS["image_size"],) * 2 or "image_size" in base:
            derived["image_size"] = said_pair(image, base.get("image_size"))
        if "head" in arch.index:
            derived.update(label_keys(base, arch.size["classes"]))
        if not base:
            derived["architectures"] = ["PoolFormer" + ("ForImageClassification" if "head" in arch.index else "Model")]
        return settled(base, derived, DEFAULTS)

    def names(self, arch: Architecture) -> tuple[Entry, ...]:
        """See `Family.names`."""
        at = f"{arch.fact['prefix']}encoder"
        entries: list[Entry] = []
        for i in range(stage_count(arch)):
            ours = f"down{i}" if i else "embed"
            entries += linear(f"{at}.patch_embeddings.{i}.projection", f"{ours}.patches.conv", bias=True)
            for j, block in enumerate(arch.stage(f"s{i}")):
                entries += _block_names(f"{at}.block.{i}.{j}", block)
        if "head" in arch.index:
            entries += norm_names("norm", "head.norm.pre") + linear("classifier", "head.score.proj", bias=True)
        return tuple(entries)

    def carried(self, name: str) -> bool:
        """Nothing is."""
        return False

    def carried_axes(self, name: str, arch: Architecture) -> tuple[str, ...]:
        """See `Family.carried_axes`."""
        return ()


def patch_convs(arch: Architecture) -> list[GridConv]:
    """The convolutions that begin the stages."""
    ops = (arch.block(f"down{i}" if i else "embed").layers[0].op for i in range(stage_count(arch)))
    return [op for op in ops if isinstance(op, GridConv)]


def _pools(arch: Architecture) -> set[int]:
    ops = (layer.op for block in arch.blocks for layer in block.layers)
    return {op.kernel[0] for op in ops if isinstance(op, GridPool)}


def _said(values: list[int], base: Mapping[str, Any], key: str) -> list[int]:
    """The numbers of all stages, with what the original says of stages that it does not have."""
    return values + list(base.get(key) or ())[len(values) :]


def _ratio(arch: Architecture, said: Any) -> float | None:
    """A ratio of hidden to stream width that gives every perceptron its size; None where no number does."""
    sizes = {
        (arch.size[f"{b.name}.ffn.hidden"], arch.size[f"{b.stage}.width"])
        for b in arch.blocks for layer in b.layers if isinstance(layer.op, Mlp)
    }  # fmt: skip
    tried = [said or 4.0, *sorted(hidden / width for hidden, width in sizes)]
    return next((r for r in tried if all(int(width * r) == hidden for hidden, width in sizes)), None)


def _block_names(at: str, block: Block) -> list[Entry]:
    entries: list[Entry] = []
    for layer in block.layers:
        part, number = f"{block.name}.{layer.name}", 1 if layer.name == "pool" else 2
        entries += norm_names(f"{at}.{'before' if number == 1 else 'after'}_norm", f"{part}.pre")
        if layer.scale:
            entries.append(entry(f"{at}.layer_scale_{number}", f"{part}.scale"))
        if isinstance(layer.op, Mlp):
            entries += linear(f"{at}.output.conv1", f"{part}.fc1", bias=True, trail=2)
            entries += linear(f"{at}.output.conv2", f"{part}.fc2", bias=True, trail=2)
    return entries
