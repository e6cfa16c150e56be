"""ViT-shaped encoders in Hugging Face's spelling: pre-norm blocks over patches (Dosovitskiy et al. 2021).

One reader for ViT and DeiT, which differ in extra tokens and heads. Names are those in the files. Heads are
found by their tensors; ``architectures`` decides where there is no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from archtool.errors import InputError
from archtool.families.base import Draft, Shapes, known_activation, uniform
from archtool.families.config import Config
from archtool.families.encoder import (
    HF_ACTIVATIONS,
    activation_name,
    add_blocks,
    add_final,
    class_count,
    dense_of,
    label_keys,
    layer_eps,
    norm_names,
    plain,
    self_attention,
    settled,
    stock_heads,
    stock_width,
)
from archtool.families.names import Entry, entry, linear
from archtool.ir.architecture import Architecture, Block, NormSpec
from archtool.operators.activation import canonical
from archtool.operators.attention import Attention
from archtool.operators.average import Average
from archtool.operators.dense import Dense
from archtool.operators.mlp import Mlp
from archtool.operators.patch_stem import PatchStem
from archtool.operators.pool import Pool

DEFAULTS: Mapping[str, Any] = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "gelu", "layer_norm_eps": 1e-12, "image_size": 224, "patch_size": 16, "num_channels": 3,
    "qkv_bias": True, "pooler_act": "tanh",
}  # fmt: skip
LINEARS = {
    "attn.q": "attention.attention.query", "attn.k": "attention.attention.key",
    "attn.v": "attention.attention.value", "attn.o": "attention.output.dense",
    "ffn.fc1": "intermediate.dense", "ffn.fc2": "output.dense",
}  # fmt: skip
NORMS = {"attn.pre": "layernorm_before", "ffn.pre": "layernorm_after"}
IGNORED = ("hidden_dropout_prob", "attention_probs_dropout_prob", "encoder_stride")


class VisionEncoder:
    """Reads and writes one ViT-shaped family; the class attributes are its spelling.

    Class attributes:
        stem: of its Hugging Face classes (``"ViT"``); ``prefix`` of names in files that have a head.
        token_files: extra tokens in order → names below ``embeddings``.
        head_files: head part → file name, with ``{at}`` for the prefix.
        variants: suffix of a Hugging Face class → its head parts.
    """

    name = ""
    model_types: tuple[str, ...] = ()
    stem = ""
    prefix = ""
    token_files: ClassVar[Mapping[str, str]] = {}
    head_files: ClassVar[Mapping[str, str]] = {}
    variants: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def read(self, config: Mapping[str, Any], shapes: Shapes) -> Architecture:
        """See `Family.read`."""
        c = Config(config, self.name)
        c.expect("model_type", self.model_types, self.name)
        suffix = str((c.take("architectures", None) or ["Model"])[0]).removeprefix(self.stem)
        bare = "embeddings.cls_token" in shapes if shapes else suffix == "Model"
        at = "" if bare else self.prefix
        there = [part for part, file in self.head_files.items() if f"{file.format(at=at)}.weight" in shapes]
        parts = tuple(there) if shapes else self.variants.get(suffix, ())
        draft = Draft(self.name, ("pixel_values",))
        draft.facts["prefix"] = at
        self._body(c, draft)
        self._heads(c, draft, shapes, parts)
        c.ignore((*IGNORED, "pooler_act", "pooler_output_size"))
        c.finish()
        return draft.done()

    def _body(self, c: Config, draft: Draft) -> None:
        width, norm = _number(c, "hidden_size"), NormSpec("layer", float(_value(c, "layer_norm_eps")))
        image, patch = (pair(c.take(key, DEFAULTS[key]), key) for key in ("image_size", "patch_size"))
        draft.facts.update(image_height=image[0], image_width=image[1])
        draft.sizes.update({"channels": _number(c, "num_channels"), "s0.width": width})
        cells = (image[0] // patch[0]) * (image[1] // patch[1])
        stem = PatchStem(patch=patch, tokens=tuple(self.token_files))
        draft.block("embed", plain("patches", stem, positions=cells + len(self.token_files)))
        attention = self_attention(width, _number(c, "num_attention_heads"), bias=bool(_value(c, "qkv_bias")))
        ffn = Mlp(act=known_activation(_value(c, "hidden_act"), self.name)), _number(c, "intermediate_size")
        add_blocks(draft, _number(c, "num_hidden_layers"), attention, ffn, norm, post=False)
        add_final(draft, norm)

    def _heads(self, c: Config, draft: Draft, shapes: Shapes, parts: Sequence[str]) -> None:
        if "pooler.dense" in parts:
            act = known_activation(_value(c, "pooler_act"), self.name)
            units = c.number("pooler_output_size", draft.sizes["s0.width"])
            first, dense = plain("first", Pool()), plain("dense", Dense(act=act), units=units)
            draft.block("pooler", first, dense, inputs=("final",))
            draft.output("pooled", "pooler")
        scores = [part for part in parts if part.endswith(".score")]
        if scores:
            add_classifiers(draft, class_count(c, shapes, f"{self.head_files[scores[0]]}.weight"), len(scores))

    def write(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.write`; a size that one number cannot say is None (dialects say it)."""
        stem = stem_of(arch)
        image = (int(arch.fact["image_height"]), int(arch.fact["image_width"]))
        width, qkv = stock_width(arch), {op.bias for op in attentions(arch)}
        derived: dict[str, Any] = {
            "model_type": self.name,
            "hidden_size": width,
            "num_hidden_layers": len(arch.stage("s0")),
            "num_attention_heads": stock_heads(arch),
            "intermediate_size": uniform(arch, "ffn.hidden"),
            "hidden_act": activation_name(arch, base.get("hidden_act")),
            "layer_norm_eps": layer_eps(arch),
            "image_size": said_pair(image, base.get("image_size")),
            "patch_size": said_pair(stem.patch, base.get("patch_size")),
            "num_channels": arch.size["channels"],
            "qkv_bias": qkv.pop() if len(qkv) == 1 else None,
            **self._pooler_keys(arch, base),
        }
        parts = self._head_parts(arch)
        if not base:
            exact = [s for s, wanted in self.variants.items() if set(wanted) == parts]
            derived["architectures"] = [self.stem + (exact[0] if exact else "Model")]
        if "head" in arch.index:
            derived.update(label_keys(base, arch.size["classes"]))
        return settled(base, derived, {**DEFAULTS, "pooler_output_size": width})

    def _pooler_keys(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        said, old_width = base.get("pooler_output_size"), base.get("hidden_size", DEFAULTS["hidden_size"])
        if "pooler" not in arch.index:
            return {"pooler_output_size": arch.size["s0.width"]} if said and said == old_width else {}
        act, before = dense_of(arch, "pooler").act, base.get("pooler_act")
        same = before is not None and canonical(str(before)) == act
        name = before if same else HF_ACTIVATIONS.get(act, act)
        return {"pooler_output_size": arch.size["pooler.dense.units"], "pooler_act": name}

    def _head_parts(self, arch: Architecture) -> set[str]:
        return {f"{b.name}.{layer.name}" for b in arch.blocks for layer in b.layers} & set(self.head_files)

    def names(self, arch: Architecture) -> tuple[Entry, ...]:
        """See `Family.names`."""
        at = str(arch.fact["prefix"])
        entries = [
            entry(f"{at}embeddings.{file}", f"embed.patches.{token}", lead=2)
            for token, file in self.token_files.items()
        ]
        entries.append(entry(f"{at}embeddings.position_embeddings", "embed.patches.position", lead=1))
        entries += linear(
            f"{at}embeddings.patch_embeddings.projection", "embed.patches.patches", bias=stem_of(arch).bias
        )
        for i, block in enumerate(arch.stage("s0")):
            entries += _block_names(f"{at}encoder.layer.{i}", block)
        entries += norm_names(f"{at}layernorm", "final.norm.pre")
        for part in sorted(self._head_parts(arch)):
            entries += linear(self.head_files[part].format(at=at), f"{part}.proj", bias=True)
        return tuple(entries)

    def carried(self, name: str) -> bool:
        """The mask token of pre-training, which no inference uses."""
        return name.endswith("embeddings.mask_token")

    def carried_axes(self, name: str, arch: Architecture) -> tuple[str, ...]:
        """See `Family.carried_axes`."""
        return ("", "", "s0.width")


def add_classifiers(draft: Draft, classes: int, heads: int) -> None:
    """One classifier on the first token, or one on each of the first two and their mean (DeiT)."""
    draft.sizes["classes"] = classes
    score = plain("score", Dense(into="classes"))
    if heads == 1:
        draft.block("head", plain("first", Pool()), score, inputs=("final",))
    else:
        for i, name in enumerate(("cls_head", "dist_head")):
            draft.block(name, plain("token", Pool(index=i)), score, inputs=("final",))
        draft.block("head", plain("mean", Average()), inputs=("cls_head", "dist_head"))
    draft.output("logits", "head")


def stem_of(arch: Architecture) -> PatchStem:
    """The patch stem."""
    op = arch.block("embed").layers[0].op
    assert isinstance(op, PatchStem)
    return op


def attentions(arch: Architecture) -> list[Attention]:
    """The attention operators of the blocks."""
    ops = [layer.op for block in arch.stage("s0") for layer in block.layers]
    return [op for op in ops if isinstance(op, Attention)]


def pair(value: Any, key: str) -> tuple[int, int]:
    """Height and width from a number or a list of two."""
    both = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if len(both) != 2 or not all(isinstance(n, int) and n > 0 for n in both):
        raise InputError(f"config.json: {key} is {value!r}, not one or two positive numbers", f"Correct {key}.")
    return both


def said_pair(both: tuple[int, int], said: Any) -> Any:
    """Height and width as one number where they are equal, or as a list where ``said`` is one."""
    return list(both) if both[0] != both[1] or isinstance(said, list | tuple) else both[0]


def _block_names(at: str, block: Block) -> list[Entry]:
    entries: list[Entry] = []
    for layer in block.layers:
        biased = layer.op.bias if isinstance(layer.op, Attention) else True
        for part, file in LINEARS.items():
            if part.startswith(f"{layer.name}."):
                bias = biased if part in ("attn.q", "attn.k", "attn.v") else True
                entries += linear(f"{at}.{file}", f"{block.name}.{part}", bias=bias)
        entries += norm_names(f"{at}.{NORMS[f'{layer.name}.pre']}", f"{block.name}.{layer.name}.pre")
    return entries


def _value(c: Config, key: str) -> Any:
    return c.take(key, DEFAULTS[key])


def _number(c: Config, key: str) -> int:
    return c.number(key, DEFAULTS[key])
