"""SegFormer (Xie et al. 2021): the Mix Transformer body, classifier, all-MLP decode head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from archtool.errors import InputError
from archtool.families.base import Draft
from archtool.families.config import Config
from archtool.families.encoder import plain
from archtool.families.names import Entry, entry, linear
from archtool.families.pyramid import DEFAULTS, Pyramid, norm_name, stage_count
from archtool.ir.architecture import Architecture, Layer, NormSpec
from archtool.operators.act import Act
from archtool.operators.all_mlp import AllMlp
from archtool.operators.conv import GridConv
from archtool.operators.image_head import ImageHead

SEGMENTATION = "ForSemanticSegmentation"
EPS = 1e-5
"""Of every norm: the class does not read ``layer_norm_eps``."""


class Segformer(Pyramid):
    """Reads and writes SegFormer: body, image classifier, semantic segmentation."""

    name = "segformer"
    model_types: tuple[str, ...] = ("segformer",)
    stem = "Segformer"
    prefix = "segformer."
    patch_file = "{at}encoder.patch_embeddings.{i}"
    block_file = "{at}encoder.block.{i}.{j}"
    norm_file = "{at}encoder.layer_norm.{i}"
    defaults: ClassVar[Mapping[str, Any]] = {**DEFAULTS, "decoder_hidden_size": 256}
    attention_files: ClassVar[Mapping[str, str]] = {
        "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
        "o": "attention.output.dense", "reduce": "attention.self.sr", "norm": "attention.self.layer_norm",
    }  # fmt: skip
    scores: ClassVar[Mapping[str, str]] = {
        "classifier.weight": "ForImageClassification", "decode_head.classifier.weight": SEGMENTATION,
    }  # fmt: skip

    def _norm(self, c: Config) -> NormSpec:
        c.ignore(("layer_norm_eps", "decoder_hidden_size"))
        return NormSpec("layer", EPS)

    def _output(self, c: Config, draft: Draft, suffix: str) -> None:
        if c.take("reshape_last_stage", True):
            return super()._output(c, draft, suffix)
        if suffix == SEGMENTATION:
            what = "config.json: reshape_last_stage=false leaves the decode head of segformer without its last grid"
            raise InputError(what, "Set it to true.")
        return draft.output("hidden", "final")

    def _head(self, c: Config, draft: Draft, suffix: str) -> None:
        if suffix != SEGMENTATION:
            return super()._head(c, draft, suffix)
        width = c.number("decoder_hidden_size", self.defaults["decoder_hidden_size"])
        fuse = Layer("fuse", AllMlp(), branch=NormSpec("batch", EPS), residual=False)
        score = GridConv(kernel=(1, 1), padding=(0, 0), into="classes")
        stages = c.number("num_encoder_blocks", self.defaults["num_encoder_blocks"])
        levels = tuple(norm_name(i, stages) for i in range(stages))
        layers = (fuse, {"inner": width, "units": width}), plain("act", Act(act="relu")), plain("score", score)
        return draft.block("head", *layers, plain("map", ImageHead()), inputs=levels)

    def _further(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        said: dict[str, Any] = {"reshape_last_stage": dict(arch.outputs)["hidden"] != "final"}
        if decodes(arch):
            inner, units = arch.size["head.fuse.inner"], arch.size["head.fuse.units"]
            said["decoder_hidden_size"] = inner if inner == units else None
        return said

    def _has_head(self, arch: Architecture, suffix: str) -> bool:
        return "head" in arch.index and decodes(arch) == (suffix == SEGMENTATION)

    def _head_names(self, arch: Architecture) -> list[Entry]:
        if not decodes(arch):
            return super()._head_names(arch)
        entries: list[Entry] = []
        for i in range(stage_count(arch)):
            entries += linear(f"decode_head.linear_c.{i}.proj", f"head.fuse.level{i}", bias=True)
        fuse = arch.block("head").layers[0]
        entries += linear("decode_head.linear_fuse", "head.fuse.fuse", bias=bool(getattr(fuse.op, "bias", False)))
        leaves = ("weight", "bias", "running_mean", "running_var") if fuse.branch else ()
        entries += [entry(f"decode_head.batch_norm.{leaf}", f"head.fuse.branch.{leaf}") for leaf in leaves]
        return entries + linear("decode_head.classifier", "head.score.conv", bias=True)


def decodes(arch: Architecture) -> bool:
    """Whether the model has the decode head."""
    return "head.fuse.units" in arch.size
