"""What MobileViT and MobileViTv2 share: inverted residuals, then layers that convolve, and attend on unfolded patches.

Blocks: ``embed``; ``s{k}b{i}`` inverted residuals of layer k; and of each hybrid layer k ``down{k}``, ``local{k}``,
``unfold{k}``, the attention layers ``m{k}b{i}``, ``fold{k}`` (and ``fuse{k}``). Axes: ``s{k}.width`` of the stream of
layer k (where a residual joins two layers, they have one axis), ``m{k}.width`` inside its patches.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from archtool.errors import InputError
from archtool.families.base import Draft, Shapes, known_activation
from archtool.families.config import Config
from archtool.families.conv_names import conv_names, inverted_names, norm_names
from archtool.families.encoder import class_count, label_keys, plain, said_classes, settled
from archtool.families.mobile_sizes import (
    HYBRID,
    STRIDES,
    axis_of,
    expanded,
    found,
    only,
    said_act,
    said_expansion,
    said_stride,
)
from archtool.families.names import Entry, linear
from archtool.families.vision_encoder import pair, said_pair
from archtool.ir.architecture import Architecture, Block, Layer, NormSpec, place_flows
from archtool.ir.feeds import entering
from archtool.operators.act import Act
from archtool.operators.conv import GridConv
from archtool.operators.conv_stem import ConvStem
from archtool.operators.dense import Dense
from archtool.operators.mbconv import MBConv
from archtool.operators.pool import Pool
from archtool.operators.unfold import PatchFold, PatchUnfold

BATCH = NormSpec("batch")
POINT: Mapping[str, Any] = {"kernel": (1, 1), "padding": (0, 0), "bias": False}
CONVS = {
    "local.conv": "conv_kxk", "local.proj": "conv_1x1", "fold.proj": "conv_projection", "fuse.conv": "fusion",
}  # fmt: skip
COMMON: Mapping[str, Any] = {
    "num_channels": 3, "image_size": 256, "patch_size": 2, "conv_kernel_size": 3, "output_stride": 32,
    "layer_norm_eps": 1e-5,
}  # fmt: skip
IGNORED = ("classifier_dropout_prob", "aspp_out_channels", "atrous_rates", "aspp_dropout_prob",
           "semantic_loss_ignore_index")  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What the blocks are built from.

    Attributes:
        widths: of the stem, the five layers and what follows them.
        inner / depths: width inside patches and attention layers of each hybrid layer.
        counts: inverted residuals of each layer.
        ratio: how much wider they are inside.
        norm: of the attention layers.
    """

    widths: tuple[int, ...]
    inner: tuple[int, ...]
    depths: tuple[int, ...]
    counts: tuple[int, ...]
    ratio: float
    act: str
    patch: int
    kernel: int
    output_stride: int
    norm: NormSpec


class MobileHybrid:
    """Reads and writes one of the two families; the class attributes are its spelling.

    Class attributes:
        stem: of its Hugging Face classes; ``prefix`` of names in files that have a head.
        uneven / cut: of `PatchUnfold`.
        depthwise: whether the convolution before attention mixes cells only.
        activated: whether an activation follows the projection out of the patches.
    """

    name = ""
    model_types: tuple[str, ...] = ()
    stem = ""
    prefix = ""
    defaults: ClassVar[Mapping[str, Any]] = {}
    ignored: ClassVar[tuple[str, ...]] = ()
    uneven = ""
    cut = True
    depthwise = False
    activated = False

    def read(self, config: Mapping[str, Any], shapes: Shapes) -> Architecture:
        """See `Family.read`."""
        c = Config(config, self.name)
        c.expect("model_type", self.model_types, self.name)
        suffix = str((c.take("architectures", None) or ["Model"])[0]).removeprefix(self.stem)
        if suffix == "ForSemanticSegmentation" or any(name.startswith("segmentation_head.") for name in shapes):
            raise InputError(f"{self.stem}ForSemanticSegmentation is not supported", "Supported: image classification.")
        bare = "conv_stem.convolution.weight" in shapes if shapes else suffix == "Model"
        draft = Draft(self.name, ("pixel_values",))
        draft.facts["prefix"] = "" if bare else self.prefix
        self._body(c, draft, self._settings(c))
        self._head(c, draft, shapes, suffix)
        c.ignore((*IGNORED, *self.ignored))
        c.finish()
        arch = draft.done()
        _check_grids(arch)
        return arch

    def _settings(self, c: Config) -> Settings:
        raise TypeError(f"{self.name} has no settings")

    def _mixing(self, c: Config, s: Settings, width: int) -> Sequence[tuple[Layer, Mapping[str, int]]]:
        raise TypeError(f"{self.name} has no attention")

    def _fuse(self, draft: Draft, s: Settings, k: int) -> None:
        """What follows folding; here nothing."""

    def value(self, c: Config, key: str) -> Any:
        """A key of the configuration, or the class' default."""
        return c.take(key, {**COMMON, **self.defaults}[key])

    def common(self, c: Config) -> dict[str, Any]:
        """The settings that both families say alike."""
        return {
            "act": known_activation(self.value(c, "hidden_act"), self.name),
            "ratio": float(self.value(c, "expand_ratio")),
            "patch": c.number("patch_size", COMMON["patch_size"]),
            "kernel": c.number("conv_kernel_size", COMMON["conv_kernel_size"]),
            "output_stride": c.expect("output_stride", tuple(STRIDES), COMMON["output_stride"]),
        }

    def _body(self, c: Config, draft: Draft, s: Settings) -> None:
        image = pair(self.value(c, "image_size"), "image_size")
        draft.facts.update(image_height=image[0], image_width=image[1])
        draft.sizes.update({"channels": c.number("num_channels", COMMON["num_channels"]), "s0.width": s.widths[0]})
        stem = ConvStem(stride=(2, 2), bias=False)
        draft.block("embed", normed("conv", stem), plain("act", Act(act=s.act)))
        fourth, fifth = STRIDES[s.output_stride]
        for k, stride in enumerate((1, 2, 2, fourth, fifth), start=1):
            dilation = 2 if k == 5 and s.output_stride == 8 else 1
            name = f"down{k}" if k in HYBRID else f"s{k}b0"
            inverted(draft, s, name, k, stride, dilation)
            for i in range(1, s.counts[k - 1]):
                inverted(draft, s, f"s{k}b{i}", k)
            if k in HYBRID:
                self._hybrid(c, draft, s, k)

    def _hybrid(self, c: Config, draft: Draft, s: Settings, k: int) -> None:
        patch, padding, width = (s.patch, s.patch), ((s.kernel - 1) // 2,) * 2, s.inner[k - 3]
        draft.sizes[f"m{k}.width"] = width
        conv = GridConv(kernel=(s.kernel, s.kernel), padding=padding, depthwise=self.depthwise, bias=False)
        proj = plain("proj", GridConv(into=f"m{k}.width", **POINT))
        draft.block(f"local{k}", normed("conv", conv), plain("act", Act(act=s.act)), proj)
        unfold = PatchUnfold(patch=patch, uneven=self.uneven, cut=self.cut)
        draft.block(f"unfold{k}", plain("unfold", unfold))
        for i in range(s.depths[k - 3]):
            draft.block(f"m{k}b{i}", *self._mixing(c, s, width), stage=f"m{k}")
        back = PatchFold(patch=patch, uneven=self.uneven, cut=self.cut)
        draft.block(
            f"fold{k}", (Layer("norm", None, pre=s.norm, residual=False), {}),
            (Layer("fold", back, residual=False, reads=(f"local{k}",)), {}),
            normed("proj", GridConv(into=axis_of(draft.sizes, k), **POINT)),
            *([plain("act", Act(act=s.act))] if self.activated else []),
        )  # fmt: skip
        self._fuse(draft, s, k)

    def _head(self, c: Config, draft: Draft, shapes: Shapes, suffix: str) -> None:
        last = draft.blocks[-1].name
        draft.output("hidden", last)
        draft.block("pooler", plain("mean", Pool(mode="mean")), inputs=(last,))
        scored = "classifier.weight" in shapes if shapes else suffix != "Model" and said_classes(c.values) > 0
        if scored:
            draft.sizes["classes"] = class_count(c, shapes, "classifier.weight")
            draft.block("head", plain("score", Dense(into="classes")), inputs=("pooler",))
        draft.output("logits" if scored or suffix != "Model" else "pooled", "head" if scored else "pooler")

    def write(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.write`; what one number cannot say is None (dialects say it)."""
        image = (int(arch.fact["image_height"]), int(arch.fact["image_width"]))
        derived: dict[str, Any] = {
            "model_type": self.name,
            "num_channels": arch.size["channels"],
            "image_size": said_pair(image, base.get("image_size")),
            "patch_size": only({op.patch[0] for op in found(arch, PatchUnfold)}),
            "conv_kernel_size": only({arch.block(f"local{k}").layers[0].op.kernel[0] for k in HYBRID}),  # type: ignore[union-attr]
            "output_stride": said_stride(arch),
            "hidden_act": said_act(arch, base),
            "expand_ratio": said_expansion(arch, base.get("expand_ratio", self.defaults["expand_ratio"])),
            "layer_norm_eps": only({arch.block(f"fold{k}").layers[0].pre.eps for k in HYBRID}),  # type: ignore[union-attr]
            **self._config(arch, base),
        }
        outputs = dict(arch.outputs)
        if not base:
            derived["architectures"] = [self.stem + ("ForImageClassification" if "logits" in outputs else "Model")]
        if "logits" in outputs:
            derived.update(label_keys(base, arch.size.get("classes", 0)))
        return settled(base, derived, {**COMMON, **self.defaults})

    def _config(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        raise TypeError(f"{self.name} writes no settings")

    def names(self, arch: Architecture) -> tuple[Entry, ...]:
        """See `Family.names`."""
        at = str(arch.fact["prefix"])
        counts: dict[str, int] = {}
        entries: list[Entry] = []
        for block in arch.blocks:
            match = re.fullmatch(r"([a-z]+)(\d)(?:b\d+)?", block.name)
            if match:
                what, k = match[1], int(match[2])
                i = counts[what + match[2]] = counts.get(what + match[2], -1) + 1
                entries += self._block_names(f"{at}encoder.layer.{k - 1}", what, i, block)
        entries += conv_names(f"{at}conv_stem", "embed.conv", arch.block("embed").layers[0])
        if "final" in arch.index:
            entries += conv_names(f"{at}conv_1x1_exp", "final.conv", arch.block("final").layers[0])
        if "head" in arch.index:
            entries += linear("classifier", "head.score.proj", bias=True)
        return tuple(entries)

    def _block_names(self, at: str, what: str, i: int, block: Block) -> Iterator[Entry]:
        if what == "m":
            yield from self._attention_names(f"{at}.transformer.layer.{i}", block)
        for layer in block.layers:
            if isinstance(layer.op, MBConv):
                file = f"{at}.layer.{i}" if what == "s" else f"{at}.downsampling_layer"
                yield from inverted_names(file, block.name, layer)
            elif f"{what}.{layer.name}" in CONVS:
                file = CONVS[f"{what}.{layer.name}"]
                yield from conv_names(f"{at}.{file}", f"{block.name}.{layer.name}", layer)
            elif what == "fold" and layer.pre:
                yield from norm_names(f"{at}.layernorm", f"{block.name}.{layer.name}.pre", layer.pre)

    def _attention_names(self, at: str, block: Block) -> Iterable[Entry]:
        raise TypeError(f"{self.name} names no attention")

    def carried(self, name: str) -> bool:
        """How many batches BatchNorm has seen."""
        return name.endswith(".num_batches_tracked")

    def carried_axes(self, name: str, arch: Architecture) -> tuple[str, ...]:
        """See `Family.carried_axes`."""
        return ()


def normed(name: str, op: GridConv) -> tuple[Layer, dict[str, int]]:
    """A convolution with a BatchNorm after it."""
    return Layer(name, op, branch=BATCH, residual=False), {}


def inverted(draft: Draft, s: Settings, name: str, k: int, stride: int = 1, dilation: int = 1) -> None:
    """Add an inverted residual into layer ``k``; where it keeps grid and width, it is a branch of the stream."""
    came = s.widths[k] if name.startswith(f"s{k}b") and name != f"s{k}b0" else s.widths[k - 1]
    stays = stride == 1 and came == s.widths[k]
    if not stays:
        draft.sizes[f"s{k}.width"] = s.widths[k]
    into = "" if stays else axis_of(draft.sizes, k)
    op = MBConv(stride=(stride, stride), dilation=(dilation, dilation), into=into, act=s.act)
    layer = Layer("mb", op, branch=BATCH, residual=stays)
    draft.block(name, (layer, {"hidden": expanded(came, s.ratio)}), stage=f"s{k}" if stays else "")


def _check_grids(arch: Architecture) -> None:
    """Refuse images that leave less than one patch."""
    for place, flow in zip(arch.places, place_flows(arch, entering(arch)), strict=True):
        op = place.layer.op
        if isinstance(op, PatchUnfold) and not op.out_flow(place.site, flow).tokens:
            rows, columns = flow.grid or (0, 0)
            raise InputError(
                f"config.json: image_size leaves a grid of {rows} × {columns} at {place.block.name}, less than a patch",
                "Use larger images or a smaller patch_size.",
            )
