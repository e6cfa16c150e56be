"""Swin (Liu et al. 2021) under Hugging Face's names: stages of window attention with patch merging between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archtool.errors import InputError
from archtool.families.base import Draft, Shapes, divided, known_activation, uniform
from archtool.families.config import Config
from archtool.families.encoder import (
    activation_name,
    add_final,
    class_count,
    label_keys,
    layer_eps,
    norm_names,
    plain,
    settled,
)
from archtool.families.names import Entry, entry, linear
from archtool.families.vision_encoder import pair, said_pair, stem_of
from archtool.ir.architecture import Architecture, Block, Layer, NormSpec, place_flows
from archtool.ir.feeds import entering
from archtool.ir.table import stored
from archtool.operators.dense import Dense
from archtool.operators.mlp import Mlp
from archtool.operators.patch_merging import PatchMerging
from archtool.operators.patch_stem import PatchStem
from archtool.operators.pool import Pool
from archtool.operators.positions import Positions
from archtool.operators.window_attention import WindowAttention

DEFAULTS: Mapping[str, Any] = {
    "image_size": 224, "patch_size": 4, "num_channels": 3, "embed_dim": 96, "depths": [2, 2, 6, 2],
    "num_heads": [3, 6, 12, 24], "window_size": 7, "mlp_ratio": 4.0, "qkv_bias": True, "hidden_act": "gelu",
    "use_absolute_embeddings": False, "layer_norm_eps": 1e-5,
}  # fmt: skip
DERIVED = ("hidden_size", "num_layers", "out_features", "out_indices", "stage_names")
IGNORED = ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate", "encoder_stride", "path_norm")
CLASSES = ("SwinModel", "SwinForImageClassification")
LINEARS = {
    "attn.q": "attention.self.query", "attn.k": "attention.self.key", "attn.v": "attention.self.value",
    "attn.o": "attention.output.dense", "ffn.fc1": "intermediate.dense", "ffn.fc2": "output.dense",
}  # fmt: skip
NORMS = {"attn": "layernorm_before", "ffn": "layernorm_after"}
TABLE = "attention.self.relative_position_bias_table"
EMBEDDING_NORM = NormSpec("layer", 1e-5)
"""The norms of embeddings and mergings, whose epsilon no configuration says."""


class Swin:
    """Reads and writes Swin: body with mean pooling, image classifier."""

    name = "swin"
    model_types: tuple[str, ...] = ("swin",)

    def read(self, config: Mapping[str, Any], shapes: Shapes) -> Architecture:
        """See `Family.read`."""
        c = Config(config, self.name)
        c.expect("model_type", self.model_types, self.name)
        said = str((c.take("architectures", None) or ["SwinModel"])[0])
        if said not in CLASSES or "decoder.0.weight" in shapes:
            known = ", ".join(CLASSES)
            raise InputError(f"config.json: {said} is not supported for {self.name}", f"Supported: {known}.")
        classifies = "classifier.weight" in shapes if shapes else said == CLASSES[1]
        bare = "embeddings.norm.weight" in shapes if shapes else not classifies
        draft = Draft(self.name, ("pixel_values",))
        draft.facts["prefix"] = "" if bare else "swin."
        self._body(c, draft)
        pool = plain("pool", Pool(mode="mean"))
        if classifies:
            draft.sizes["classes"] = class_count(c, shapes, "classifier.weight")
            draft.block("head", pool, plain("score", Dense(into="classes")))
            draft.output("logits", "head")
        else:
            draft.block("pooler", pool)
            draft.output("pooled", "pooler")
        c.ignore((*IGNORED, *DERIVED))
        c.finish()
        return draft.done()

    def _body(self, c: Config, draft: Draft) -> None:
        norm = NormSpec("layer", float(_value(c, "layer_norm_eps")))
        self._stem(c, draft)
        depths, heads = _counts(c, "depths"), _counts(c, "num_heads")
        if len(depths) != len(heads):
            raise InputError(f"config.json: {len(depths)} depths, {len(heads)} num_heads", "Give one for each stage.")
        number, ratio = 0, float(_value(c, "mlp_ratio"))
        ffn = Layer("ffn", Mlp(act=known_activation(_value(c, "hidden_act"), self.name)), pre=norm)
        window, bias = c.number("window_size", DEFAULTS["window_size"]), bool(_value(c, "qkv_bias"))
        for stage, depth in enumerate(depths):
            width = draft.sizes["s0.width"] * 2**stage
            if stage:
                draft.sizes[f"s{stage}.width"] = width
                draft.block(f"down{stage}", plain("merge", PatchMerging(into=f"s{stage}.width", norm=EMBEDDING_NORM)))
            head_dim = divided(width, heads[stage], f"width over num_heads of stage {stage}")
            sizes = {"kv": heads[stage], "qk": head_dim, "v": head_dim}
            for i in range(depth):
                shift = i % 2 * (window // 2)
                op = WindowAttention(window=window, shift=shift, scale=head_dim**-0.5, bias=bias)
                layers = (Layer("attn", op, pre=norm), sizes), (ffn, {"hidden": int(ratio * width)})
                draft.block(f"b{number}", *layers, stage=f"s{stage}")
                number += 1
        add_final(draft, norm)

    def _stem(self, c: Config, draft: Draft) -> None:
        image, patch = (pair(c.take(key, DEFAULTS[key]), key) for key in ("image_size", "patch_size"))
        draft.facts.update(image_height=image[0], image_width=image[1])
        channels, width = (c.number(key, DEFAULTS[key]) for key in ("num_channels", "embed_dim"))
        draft.sizes.update({"channels": channels, "s0.width": width})
        stem = PatchStem(patch=patch, tokens=(), positions=False, padded=True)
        layers = [plain("patches", stem, post=EMBEDDING_NORM)]
        if _value(c, "use_absolute_embeddings"):
            cells = [divided(n, p, "image_size over patch_size") for n, p in zip(image, patch, strict=True)]
            layers.append(plain("positions", Positions(), positions=cells[0] * cells[1]))
        draft.block("embed", *layers)

    def write(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.write`; what one number cannot say is None (dialects say it)."""
        stem, widths = stem_of(arch), [arch.size[f"{stage}.width"] for stage in arch.stages]
        doubled = widths == [widths[0] * 2**i for i in range(len(widths))]
        image = (int(arch.fact["image_height"]), int(arch.fact["image_width"]))
        biases = {op.bias for op in _attentions(arch)}
        derived: dict[str, Any] = {
            "model_type": self.name,
            "image_size": said_pair(image, base.get("image_size")),
            "patch_size": said_pair(stem.patch, base.get("patch_size")),
            "num_channels": arch.size["channels"],
            "embed_dim": widths[0] if doubled else None,
            "depths": [len(blocks) for blocks in arch.stages.values()],
            "num_heads": _heads(arch, widths),
            "window_size": _window(arch),
            "mlp_ratio": _ratio(arch, widths, base.get("mlp_ratio")),
            "qkv_bias": biases.pop() if len(biases) == 1 else None,
            "hidden_act": activation_name(arch, base.get("hidden_act")),
            "layer_norm_eps": layer_eps(arch),
            "use_absolute_embeddings": len(arch.block("embed").layers) == 2,
        }
        if "hidden_size" in base:
            derived["hidden_size"] = widths[-1]
        if not base:
            derived["architectures"] = [CLASSES["head" in arch.index]]
        if "head" in arch.index:
            derived.update(label_keys(base, arch.size["classes"]))
        return settled(base, derived, DEFAULTS)

    def names(self, arch: Architecture) -> tuple[Entry, ...]:
        """See `Family.names`."""
        at = str(arch.fact["prefix"])
        stem = f"{at}embeddings.patch_embeddings.projection"
        entries = linear(stem, "embed.patches.patches", bias=True)
        entries += norm_names(f"{at}embeddings.norm", "embed.patches.post")
        if "embed.positions.positions" in arch.size:
            entries.append(entry(f"{at}embeddings.position_embeddings", "embed.positions.table", lead=1))
        for stage, blocks in enumerate(arch.stages.values()):
            for i, block in enumerate(blocks):
                entries += _block_names(f"{at}encoder.layers.{stage}.blocks.{i}", block)
            if stage:
                merge = f"{at}encoder.layers.{stage - 1}.downsample"
                entries += norm_names(f"{merge}.norm", f"down{stage}.merge.norm")
                biased = f"down{stage}.merge.reduce.bias" in stored(arch)
                entries += linear(f"{merge}.reduction", f"down{stage}.merge.reduce", bias=biased)
        entries += norm_names(f"{at}layernorm", "final.norm.pre")
        if "head" in arch.index:
            entries += linear("classifier", "head.score.proj", bias=True)
        return tuple(entries)

    def carried(self, name: str) -> bool:
        """The mask token of pre-training, and the index that is computed here."""
        return name.endswith(("embeddings.mask_token", "attention.self.relative_position_index"))

    def carried_axes(self, name: str, arch: Architecture) -> tuple[str, ...]:
        """See `Family.carried_axes`."""
        return ("", "", "s0.width") if name.endswith("mask_token") else ()


def _block_names(at: str, block: Block) -> list[Entry]:
    entries: list[Entry] = []
    for layer in block.layers:
        here = f"{block.name}.{layer.name}"
        biased = layer.op.bias if isinstance(layer.op, WindowAttention) else True
        for part, file in LINEARS.items():
            if part.startswith(f"{layer.name}."):
                bias = biased if part in ("attn.q", "attn.k", "attn.v") else True
                entries += linear(f"{at}.{file}", f"{block.name}.{part}", bias=bias)
        if isinstance(layer.op, WindowAttention):
            entries.append(entry(f"{at}.{TABLE}", f"{here}.table"))
        entries += norm_names(f"{at}.{NORMS[layer.name]}", f"{here}.pre")
    return entries


def _attentions(arch: Architecture, stage: str = "") -> list[WindowAttention]:
    """The attention operators of a stage, or of all."""
    ops = (place.layer.op for place in arch.places if place.block.stage and stage in ("", place.block.stage))
    return [op for op in ops if isinstance(op, WindowAttention)]


def _heads(arch: Architecture, widths: list[int]) -> list[int] | None:
    """Heads per stage, where every head has width / heads dimensions and that scale; None elsewhere."""
    found: list[int] = []
    for stage, width in zip(arch.stages, widths, strict=True):
        kv, qk, v = (uniform(arch, f"attn.{axis}", stage) or 0 for axis in ("kv", "qk", "v"))
        scales = {op.scale for op in _attentions(arch, stage)}
        if qk != v or kv * v != width or scales != {v**-0.5}:
            return None
        found.append(kv)
    return found


def _window(arch: Architecture) -> int | None:
    """The common window; None where a stage's grid is smaller, which the stock class does not compute."""
    found = set()
    for place, flow in zip(arch.places, place_flows(arch, entering(arch)), strict=True):
        if isinstance(place.layer.op, WindowAttention):
            fits = min(flow.grid or (0,)) >= place.layer.op.window
            found.add(place.layer.op.window if fits else None)
    return found.pop() if len(found) == 1 else None


def _ratio(arch: Architecture, widths: list[int], said: Any) -> float | None:
    """A ratio that gives every stage its hidden width, ``said`` where it does; None where there is none."""
    hidden = [uniform(arch, "ffn.hidden", stage) for stage in arch.stages]
    pairs = [(n, width) for n, width in zip(hidden, widths, strict=True) if n]
    if len(pairs) < len(widths):
        return None
    lowest = max(n / width for n, width in pairs)
    middle = (lowest + min((n + 1) / width for n, width in pairs)) / 2
    tried = (DEFAULTS["mlp_ratio"] if said is None else said, lowest, middle)
    return next((ratio for ratio in tried if all(int(ratio * width) == n for n, width in pairs)), None)


def _counts(c: Config, key: str) -> list[int]:
    """One positive number for each stage."""
    found = c.take(key, DEFAULTS[key])
    if not isinstance(found, list) or not found or not all(type(n) is int and n > 0 for n in found):
        raise InputError(f"config.json: {key} is {found!r}, not a list of positive numbers", f"Correct {key}.")
    return found


def _value(c: Config, key: str) -> Any:
    return c.take(key, DEFAULTS[key])
