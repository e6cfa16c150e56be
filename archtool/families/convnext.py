"""ConvNeXt (Liu et al. 2022) and ConvNeXt V2 (Woo et al. 2023) under Hugging Face's names.

A block is a depthwise convolution and a perceptron with its norm, one residual branch. V2 has global response
normalisation on the hidden layer in place of gains on the branch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

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
from archtool.families.vision_encoder import pair, said_pair
from archtool.ir.architecture import Architecture, Block, Layer, NormSpec
from archtool.operators.conv_stem import ConvStem
from archtool.operators.dense import Dense
from archtool.operators.depthwise import DepthwiseConv
from archtool.operators.down_conv import DownConv
from archtool.operators.mlp import Mlp
from archtool.operators.pool import Pool

DEFAULTS: Mapping[str, Any] = {
    "num_channels": 3, "patch_size": 4, "num_stages": 4, "hidden_sizes": [96, 192, 384, 768], "depths": [3, 3, 9, 3],
    "hidden_act": "gelu", "layer_norm_eps": 1e-12, "layer_scale_init_value": 1e-6, "image_size": 224,
}  # fmt: skip
NORM, RESPONSE = NormSpec("layer", 1e-6), NormSpec("grn", 1e-6)
IGNORED = ("drop_path_rate", "out_features", "out_indices", "stage_names", "num_hidden_layers")


class ConvNext:
    """Reads and writes ConvNeXt: body with its pooled output, image classifier."""

    name = "convnext"
    model_types: tuple[str, ...] = ("convnext", "convnextv2")
    stems: ClassVar[Mapping[str, str]] = {"convnext": "ConvNext", "convnextv2": "ConvNextV2"}

    def read(self, config: Mapping[str, Any], shapes: Shapes) -> Architecture:
        """See `Family.read`."""
        c = Config(config, self.name)
        kind = c.expect("model_type", self.model_types, self.name)
        suffix = str((c.take("architectures", None) or ["Model"])[0]).removeprefix(self.stems[kind])
        body = "embeddings.patch_embeddings.weight" in shapes if shapes else suffix == "Model"
        classifies = "classifier.weight" in shapes if shapes else suffix == "ForImageClassification"
        draft = Draft(self.name, ("pixel_values",))
        draft.facts.update(model_type=kind, prefix="" if body else f"{kind}.")
        self._body(c, draft, kind)
        add_final(draft)
        norm = NormSpec("layer", float(c.take("layer_norm_eps", DEFAULTS["layer_norm_eps"])))
        draft.block("pooler", plain("mean", Pool(mode="mean"), post=norm), inputs=("final",))
        draft.output("pooled", "pooler")
        if classifies:
            draft.sizes["classes"] = class_count(c, shapes, "classifier.weight")
            draft.block("head", plain("score", Dense(into="classes")), inputs=("pooler",))
            draft.output("logits", "head")
        c.ignore(IGNORED)
        c.finish()
        return draft.done()

    def _body(self, c: Config, draft: Draft, kind: str) -> None:
        patch, stages = pair(c.take("patch_size", 4), "patch_size"), c.number("num_stages", 4)
        image_facts(c, draft)
        draft.sizes["channels"] = c.number("num_channels", 3)
        scaled = kind == "convnext" and float(c.take("layer_scale_init_value", 1e-6)) > 0
        ffn = Mlp(act=activation_of(c), norm=None if kind == "convnext" else RESPONSE)
        layers = Layer("dw", DepthwiseConv(), residual=False), Layer("ffn", ffn, pre=NORM, scale=scaled, since="dw")
        sizes = per_stage(c, "hidden_sizes", DEFAULTS["hidden_sizes"], stages)
        counts = per_stage(c, "depths", DEFAULTS["depths"], stages)
        for i, (width, count) in enumerate(zip(sizes, counts, strict=True)):
            draft.sizes[f"s{i}.width"] = width
            if i == 0:
                stem = Layer(
                    "patches", ConvStem(kernel=patch, stride=patch, padding=(0, 0)), branch=NORM, residual=False
                )
                draft.block("embed", (stem, {}))
            else:
                down = Layer("conv", DownConv(into=f"s{i}.width"), pre=NORM, residual=False)
                draft.block(f"down{i}", (down, {}))
            add_stage_blocks(draft, i, count, (layers[0], {}), (layers[1], {"hidden": 4 * width}))

    def write(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.write`; the hidden width of a perceptron is four times the stream's, which no key says."""
        kind = str(arch.fact["model_type"])
        stem, pooled = arch.block("embed").layers[0].op, arch.block("pooler").layers[0].post
        assert isinstance(stem, ConvStem) and pooled is not None
        image = (int(arch.fact["image_height"]), int(arch.fact["image_width"]))
        derived: dict[str, Any] = {
            "model_type": kind,
            "num_channels": arch.size["channels"],
            "patch_size": said_pair(stem.kernel, base.get("patch_size")),
            "num_stages": stage_count(arch),
            "hidden_sizes": widths(arch),
            "depths": depths(arch),
            "hidden_act": said_activation(arch, base.get("hidden_act")),
            "layer_norm_eps": pooled.eps,
            "image_size": said_pair(image, base.get("image_size")),
        }
        if kind == "convnext":
            derived["layer_scale_init_value"] = scale_value(arch, base.get("layer_scale_init_value"), 1e-6)
        if "head" in arch.index:
            derived.update(label_keys(base, arch.size["classes"]))
        if not base:
            suffix = "ForImageClassification" if "head" in arch.index else "Model"
            derived["architectures"] = [self.stems[kind] + suffix]
        return settled(base, derived, DEFAULTS)

    def names(self, arch: Architecture) -> tuple[Entry, ...]:
        """See `Family.names`."""
        at = str(arch.fact["prefix"])
        entries = linear(f"{at}embeddings.patch_embeddings", "embed.patches.conv", bias=True)
        entries += norm_names(f"{at}embeddings.layernorm", "embed.patches.branch")
        for i in range(stage_count(arch)):
            stage = f"{at}encoder.stages.{i}"
            if i:
                entries += norm_names(f"{stage}.downsampling_layer.0", f"down{i}.conv.pre")
                entries += linear(f"{stage}.downsampling_layer.1", f"down{i}.conv.conv", bias=True)
            for j, block in enumerate(arch.stage(f"s{i}")):
                entries += _block_names(f"{stage}.layers.{j}", block)
        entries += norm_names(f"{at}layernorm", "pooler.mean.post")
        if "head" in arch.index:
            entries += linear("classifier", "head.score.proj", bias=True)
        return tuple(entries)

    def carried(self, name: str) -> bool:
        """Nothing is."""
        return False

    def carried_axes(self, name: str, arch: Architecture) -> tuple[str, ...]:
        """See `Family.carried_axes`."""
        return ()


def _block_names(at: str, block: Block) -> list[Entry]:
    b, ffn = block.name, block.layers[-1]
    entries = linear(f"{at}.dwconv", f"{b}.dw.conv", bias=True)
    entries += norm_names(f"{at}.layernorm", f"{b}.ffn.pre")
    entries += linear(f"{at}.pwconv1", f"{b}.ffn.fc1", bias=True) + linear(f"{at}.pwconv2", f"{b}.ffn.fc2", bias=True)
    if ffn.scale:
        entries.append(entry(f"{at}.layer_scale_parameter", f"{b}.ffn.scale"))
    if isinstance(ffn.op, Mlp) and ffn.op.norm:
        entries += [entry(f"{at}.grn.{leaf}", f"{b}.ffn.norm.{leaf}", lead=3) for leaf in ("weight", "bias")]
    return entries
