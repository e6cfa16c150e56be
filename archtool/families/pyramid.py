"""Pyramids of stages with reduced keys and values, in Hugging Face's spelling: SegFormer, PVT v2.

Every stage is an overlapping patch embedding, pre-norm blocks (`mix.attn.sr` or, where nothing is reduced,
`mix.attn`; then `ffn.conv`) and a norm. Settings are lists with one value per stage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from archtool.errors import InputError
from archtool.families.base import Draft, Shapes, divided, known_activation, uniform
from archtool.families.config import Config
from archtool.families.encoder import HF_ACTIVATIONS, class_count, label_keys, norm_names, plain, settled
from archtool.families.names import Entry, linear
from archtool.families.vision_encoder import pair, said_pair
from archtool.ir.architecture import Architecture, Block, Layer, NormSpec
from archtool.operators.activation import canonical
from archtool.operators.attention import Attention
from archtool.operators.conv import GridConv
from archtool.operators.conv_mlp import ConvMlp
from archtool.operators.dense import Dense
from archtool.operators.down_conv import DownConv
from archtool.operators.image_head import ImageHead
from archtool.operators.overlap_stem import OverlapStem, overlapping
from archtool.operators.pool import Pool
from archtool.operators.reduced_attention import ReducedAttention

DEFAULTS: Mapping[str, Any] = {
    "num_channels": 3, "num_encoder_blocks": 4, "depths": [2, 2, 2, 2], "sr_ratios": [8, 4, 2, 1],
    "hidden_sizes": [32, 64, 160, 256], "patch_sizes": [7, 3, 3, 3], "strides": [4, 2, 2, 2],
    "num_attention_heads": [1, 2, 5, 8], "mlp_ratios": [4, 4, 4, 4], "hidden_act": "gelu", "layer_norm_eps": 1e-6,
    "image_size": 224, "qkv_bias": True, "linear_attention": False, "reshape_last_stage": True,
}  # fmt: skip
IGNORED = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout_prob", "drop_path_rate",
    "downsampling_rates", "semantic_loss_ignore_index", "out_features", "out_indices", "stage_names",
    "_out_features", "_out_indices",
)  # fmt: skip


class Pyramid:
    """Reads and writes one such family; the class attributes are its spelling.

    Class attributes:
        stem: of its Hugging Face classes (``"Segformer"``); ``prefix`` of names in files that have a head.
        patch_file / block_file / norm_file: of stage ``{i}``, block ``{j}``, with ``{at}`` for the prefix.
        attention_files: part of the attention → name below the block.
        scores: file of a classifier's weight → suffix of the Hugging Face class that has it.
    """

    name = ""
    model_types: tuple[str, ...] = ()
    stem = ""
    prefix = ""
    patch_file = ""
    block_file = ""
    norm_file = ""
    defaults: ClassVar[Mapping[str, Any]] = DEFAULTS
    attention_files: ClassVar[Mapping[str, str]] = {}
    ffn_files: ClassVar[Mapping[str, str]] = {"fc1": "mlp.dense1", "conv": "mlp.dwconv.dwconv", "fc2": "mlp.dense2"}
    scores: ClassVar[Mapping[str, str]] = {"classifier.weight": "ForImageClassification"}

    def read(self, config: Mapping[str, Any], shapes: Shapes) -> Architecture:
        """See `Family.read`."""
        c = Config(config, self.name)
        c.expect("model_type", self.model_types, self.name)
        suffix = str((c.take("architectures", None) or ["Model"])[0]).removeprefix(self.stem)
        if shapes:
            suffix = next((found for file, found in self.scores.items() if file in shapes), "Model")
        prefixed = any(name.startswith(self.prefix) for name in shapes) if shapes else suffix in self.scores.values()
        draft = Draft(self.name, ("pixel_values",))
        draft.facts["prefix"] = self.prefix if prefixed else ""
        self._body(c, draft)
        self._output(c, draft, suffix)
        score = next((file for file, found in self.scores.items() if found == suffix), "")
        if score:
            draft.sizes["classes"] = class_count(c, shapes, score)
            self._head(c, draft, suffix)
            draft.output("logits", "head")
        c.ignore(IGNORED)
        c.finish()
        return draft.done()

    def _body(self, c: Config, draft: Draft) -> None:
        stages, norm = c.number("num_encoder_blocks", self.defaults["num_encoder_blocks"]), self._norm(c)
        image = pair(c.take("image_size", self.defaults["image_size"]), "image_size")
        draft.facts.update(image_height=image[0], image_width=image[1])
        draft.sizes["channels"] = c.number("num_channels", self.defaults["num_channels"])
        said = {key: self._staged(c, key, stages) for key in STAGED}
        for i in range(stages):
            width = draft.sizes[f"s{i}.width"] = said["hidden_sizes"][i]
            where = overlapping(said["patch_sizes"][i], said["strides"][i])
            op = DownConv(into=f"s{i}.width", **where) if i else OverlapStem(**where)
            draft.block(stem_name(i), (Layer("patches", op, post=norm, residual=False), {}))
            attention = self._attention(c, width, said["num_attention_heads"][i], said["sr_ratios"][i], norm)
            ffn = self._ffn(c), {"hidden": int(width * said["mlp_ratios"][i])}
            layers = tuple((Layer(n, op, pre=norm), sizes) for n, (op, sizes) in (("attn", attention), ("ffn", ffn)))
            first = len(draft.blocks) - 2 * i - 1
            for j in range(said["depths"][i]):
                draft.block(f"b{first + j}", *layers, stage=f"s{i}")
            draft.block(norm_name(i, stages), (Layer("norm", None, pre=norm, residual=False), {}))

    def _norm(self, c: Config) -> NormSpec:
        return NormSpec("layer", float(c.take("layer_norm_eps", self.defaults["layer_norm_eps"])))

    def _staged(self, c: Config, key: str, stages: int) -> list[Any]:
        """A setting with one positive number per stage."""
        values, kinds = c.take(key, self.defaults[key]), int | float if key == "mlp_ratios" else int
        lowest = -1 if key == "depths" else 0
        right = isinstance(values, list | tuple) and len(values) == stages
        if not right or any(not isinstance(v, kinds) or isinstance(v, bool) or v <= lowest for v in values):
            what = f"config.json: {key} is {values!r}, not {stages} positive numbers, one for each stage"
            raise InputError(what, f"Correct {key} or num_encoder_blocks.")
        return list(values)

    def _attention(self, c: Config, width: int, heads: int, ratio: int, norm: NormSpec) -> tuple[Any, dict[str, int]]:
        """The mixer of a stage with the sizes of its axes."""
        head_dim = divided(width, heads, "hidden_sizes over num_attention_heads")
        bias, sizes = self._bias(c), {"kv": heads, "qk": head_dim, "v": head_dim}
        reduction = self._reduction(c, ratio)
        if not reduction:
            return Attention(scale=head_dim**-0.5, bias=bias), {**sizes, "group": 1}
        return ReducedAttention(scale=head_dim**-0.5, bias=bias, norm=norm, **reduction), {**sizes, "inner": width}

    def _bias(self, c: Config) -> bool:
        return True

    def _reduction(self, c: Config, ratio: int) -> dict[str, Any]:
        return {"ratio": ratio} if ratio > 1 else {}

    def _ffn(self, c: Config) -> ConvMlp:
        return ConvMlp(act=known_activation(c.take("hidden_act", self.defaults["hidden_act"]), self.name))

    def _output(self, c: Config, draft: Draft, suffix: str) -> None:
        """The last hidden state, as an image."""
        draft.block("hidden", plain("map", ImageHead()), inputs=("final",))
        draft.output("hidden", "hidden")

    def _head(self, c: Config, draft: Draft, suffix: str) -> None:
        """The classifier on the mean token."""
        draft.block("head", plain("mean", Pool(mode="mean")), plain("score", Dense(into="classes")), inputs=("final",))

    def write(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.write`; a list with a size that one number cannot say is None (dialects say it)."""
        image = (int(arch.fact["image_height"]), int(arch.fact["image_width"]))
        derived: dict[str, Any] = {
            "model_type": self.name,
            "num_channels": arch.size["channels"],
            "num_encoder_blocks": stage_count(arch),
            "image_size": said_pair(image, base.get("image_size", self.defaults["image_size"])),
            "hidden_act": spelled_act(arch, base.get("hidden_act")),
            **{key: self._said(arch, base, key, of_stage) for key, of_stage in STAGED.items()},
            **self._further(arch, base),
        }
        if not base:
            head = [suffix for suffix in self.scores.values() if self._has_head(arch, suffix)]
            derived["architectures"] = [self.stem + (head[0] if head else "Model")]
        if "classes" in arch.size:
            derived.update(label_keys(base, arch.size["classes"]))
        return settled(base, derived, self.defaults)

    def _said(
        self, arch: Architecture, base: Mapping[str, Any], key: str,
        of_stage: Callable[[Architecture, int, Any], Any],
    ) -> list[Any] | None:  # fmt: skip
        """One value per stage, or None where a stage has no such value; what ``base`` says stays if it is right."""
        before = list(base.get(key) or self.defaults[key])
        before += [None] * (stage_count(arch) - len(before))
        found = [of_stage(arch, i, before[i]) for i in range(stage_count(arch))]
        return None if None in found else found

    def _further(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def _has_head(self, arch: Architecture, suffix: str) -> bool:
        return "head" in arch.index

    def names(self, arch: Architecture) -> tuple[Entry, ...]:
        """See `Family.names`."""
        at, stages, entries = str(arch.fact["prefix"]), stage_count(arch), list[Entry]()
        for i in range(stages):
            file, part = self.patch_file.format(at=at, i=i), f"{stem_name(i)}.patches"
            entries += linear(f"{file}.proj", f"{part}.conv", bias=True)
            entries += norm_names(f"{file}.layer_norm", f"{part}.post")
            for j, block in enumerate(arch.stage(f"s{i}")):
                entries += self._block_names(self.block_file.format(at=at, i=i, j=j), block)
            entries += norm_names(self.norm_file.format(at=at, i=i), f"{norm_name(i, stages)}.norm.pre")
        return (*entries, *self._head_names(arch))

    def _block_names(self, at: str, block: Block) -> list[Entry]:
        entries: list[Entry] = []
        norms, files = {"attn": "layer_norm_1", "ffn": "layer_norm_2"}, {"attn": self.attention_files}
        for layer in block.layers:
            parts = dict(files.get(layer.name, self.ffn_files))
            if isinstance(layer.op, Attention):
                parts = {part: file for part, file in parts.items() if part in ("q", "k", "v", "o")}
            for part, file in parts.items():
                named = f"{block.name}.{layer.name}.{part}"
                biased = part not in ("q", "k", "v") or bool(getattr(layer.op, "bias", True))
                entries += (
                    norm_names(f"{at}.{file}", named) if part == "norm" else linear(f"{at}.{file}", named, bias=biased)
                )
            entries += norm_names(f"{at}.{norms[layer.name]}", f"{block.name}.{layer.name}.pre")
        return entries

    def _head_names(self, arch: Architecture) -> list[Entry]:
        return linear("classifier", "head.score.proj", bias=True) if "head" in arch.index else []

    def carried(self, name: str) -> bool:
        """BatchNorm's counter of training steps."""
        return name.endswith("num_batches_tracked")

    def carried_axes(self, name: str, arch: Architecture) -> tuple[str, ...]:
        """See `Family.carried_axes`."""
        return ()


def stem_name(stage: int) -> str:
    """Name of a stage's patch embedding."""
    return f"down{stage}" if stage else "embed"


def norm_name(stage: int, stages: int) -> str:
    """Name of a stage's last norm; that of the last stage is ``final``."""
    return "final" if stage == stages - 1 else f"norm{stage}"


def stage_count(arch: Architecture) -> int:
    """Number of stages."""
    return sum(block.name == "embed" or block.name.startswith("down") for block in arch.blocks)


def mixers(arch: Architecture, stage: int) -> list[Any]:
    """The attention operators of a stage."""
    ops = (layer.op for block in arch.stage(f"s{stage}") for layer in block.layers)
    return [op for op in ops if isinstance(op, Attention | ReducedAttention)]


def common(values: Iterable[Any]) -> Any:
    """The one value that all have, or None."""
    found = set(values)
    return found.pop() if len(found) == 1 else None


def spelled_act(arch: Architecture, said: Any) -> str | None:
    """The perceptrons' activation as Hugging Face spells it; ``said`` is kept where it means the same."""
    act = common(layer.op.act for b in arch.blocks for layer in b.layers if isinstance(layer.op, ConvMlp))
    if said is not None and canonical(str(said)) == act:
        return str(said)
    return None if act is None else HF_ACTIVATIONS.get(act, act)


def _heads(arch: Architecture, i: int, before: Any) -> int | None:
    """Heads of width / heads dimensions with that scale, and a reduced grid of the stage's width."""
    stage, width = f"s{i}", arch.size[f"s{i}.width"]
    if not arch.stage(stage):
        return before
    kv, qk, v = (uniform(arch, f"attn.{axis}", stage) or 0 for axis in ("kv", "qk", "v"))
    reduced = all(isinstance(op, ReducedAttention) for op in mixers(arch, i))
    square = uniform(arch, "attn.inner", stage) == width if reduced else uniform(arch, "attn.group", stage) == 1
    scale = common(op.scale for op in mixers(arch, i))
    return kv if square and qk == v and kv * v == width and scale == v**-0.5 else None


def _ratio(arch: Architecture, i: int, before: Any) -> float | int | None:
    """Hidden units over width; what the file said where it still gives them."""
    width, hidden = arch.size[f"s{i}.width"], uniform(arch, "ffn.hidden", f"s{i}")
    if not arch.stage(f"s{i}") or (hidden is not None and before and int(width * before) == hidden):
        return before
    if hidden is None or hidden % width == 0:
        return hidden // width if hidden else None
    exact = hidden / width
    return exact if int(width * exact) == hidden else math.nextafter(exact, math.inf)


def _reduced_by(arch: Architecture, i: int, before: Any) -> int | None:
    """Cells per key; what the file said where it has no effect."""
    ops = mixers(arch, i)
    if all(getattr(op, "pool", 0) for op in ops):
        return before
    return common(getattr(op, "ratio", 1) for op in ops)


def _stem(arch: Architecture, i: int) -> GridConv:
    op = arch.block(stem_name(i)).layers[0].op
    assert isinstance(op, GridConv)
    return op


STAGED: Mapping[str, Callable[[Architecture, int, Any], Any]] = {
    "depths": lambda arch, i, before: len(arch.stage(f"s{i}")),
    "hidden_sizes": lambda arch, i, before: arch.size[f"s{i}.width"],
    "num_attention_heads": _heads,
    "mlp_ratios": _ratio,
    "sr_ratios": _reduced_by,
    "patch_sizes": lambda arch, i, before: _stem(arch, i).kernel[0],
    "strides": lambda arch, i, before: _stem(arch, i).stride[0],
}
"""Settings with one value per stage, and how an architecture says each."""
