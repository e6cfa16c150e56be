"""ViT and DeiT under timm's names: fused qkv, LayerScale, distillation token, token or mean pooling.

A timm checkpoint has tensors and perhaps a ``config.json`` with ``architecture``, ``model_args`` and
``pretrained_cfg``. Shapes tell everything but the number of heads, which comes from ``model_args`` or from
the size in the architecture's name; the norms' epsilon is timm's 1e-6. Sources: Dosovitskiy et al. 2021,
Touvron et al. 2021 (DeiT) and 2022 (DeiT III).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from archtool.errors import InputError
from archtool.families.base import Draft, Shapes, known_activation, overlay, uniform
from archtool.families.config import Config
from archtool.families.encoder import add_blocks, add_final, norm_names, plain, self_attention, stock_heads
from archtool.families.names import Entry, entry, linear
from archtool.families.timm_args import (
    check_agreement,
    head_count,
    image_size,
    model_args,
    pooling,
    refuse_variants,
)
from archtool.families.vision_encoder import add_classifiers, attentions, stem_of
from archtool.ir.architecture import Architecture, Block, Layer, NormSpec
from archtool.operators.attention import Attention
from archtool.operators.dense import Dense
from archtool.operators.mlp import Mlp
from archtool.operators.patch_stem import PatchStem
from archtool.operators.pool import Pool

NORM = NormSpec("layer", 1e-6)
WRAPPER = "timm_model."
TOKENS = {"cls": "cls_token", "dist": "dist_token"}
ANY_NAME = {False: "vit_base_patch16_224", True: "deit_base_distilled_patch16_224"}
IGNORED = ("pretrained_cfg", "label_names", "label_descriptions", "do_pooling", "num_features")


class TimmVit:
    """Reads and writes timm's VisionTransformer and its distilled form."""

    name = "timm_vit"
    model_types: tuple[str, ...] = ("timm_wrapper",)

    def detects(self, config: Mapping[str, Any], shapes: Shapes) -> bool:
        """Whether these are a timm ViT's configuration and tensors (they carry no ``model_type``)."""
        return any(name.removeprefix(WRAPPER) == "blocks.0.attn.qkv.weight" for name in shapes)

    def read(self, config: Mapping[str, Any], shapes: Shapes) -> Architecture:
        """See `Family.read`; the file's shapes are needed."""
        c = Config(config, self.name)
        at = WRAPPER if any(name.startswith(WRAPPER) for name in shapes) else ""
        bare = {name.removeprefix(at): shape for name, shape in shapes.items()}
        if "patch_embed.proj.weight" not in bare or "blocks.0.attn.qkv.weight" not in bare:
            raise InputError("a timm ViT is read from its tensors; here are none of them", "Give the weights too.")
        draft = Draft(self.name, ("pixel_values",))
        name = ANY_NAME["dist_token" in bare]
        draft.facts.update(prefix=at, architecture=c.take("architecture", name), wrapped="model_type" in config)
        refuse_variants(str(draft.facts["architecture"]), bare)
        args = model_args(c)
        self._stem(c, args, draft, bare)
        self._blocks(c, args, draft, bare)
        self._heads(pooling(c, args, bare), draft, bare)
        c.ignore((*IGNORED, "num_classes"))
        c.finish()
        check_agreement(config, args, draft.sizes, draft.sizes.get("classes", 0))
        draft.facts["args"] = json.dumps(_args(draft.done()), sort_keys=True)
        return draft.done()

    def _stem(self, c: Config, args: Mapping[str, Any], draft: Draft, bare: Shapes) -> None:
        width, channels, rows, columns = bare["patch_embed.proj.weight"]
        tokens = tuple(token for token, file in TOKENS.items() if file in bare)
        count = bare["pos_embed"][1]
        image = image_size(c, args, count, len(tokens), (rows, columns))
        cells = (image[0] // rows) * (image[1] // columns)
        draft.facts.update(image_height=image[0], image_width=image[1])
        draft.sizes.update({"channels": channels, "s0.width": width})
        stem = PatchStem(
            patch=(rows, columns), tokens=tokens, bias="patch_embed.proj.bias" in bare,
            token_positions=count == cells + len(tokens),
        )  # fmt: skip
        draft.block("embed", plain("patches", stem, positions=count))

    def _blocks(self, c: Config, args: Mapping[str, Any], draft: Draft, bare: Shapes) -> None:
        first, width = "blocks.0.attn", draft.sizes["s0.width"]
        norm = NORM if f"{first}.q_norm.weight" in bare else None
        heads = head_count(str(c.take("architecture", "")), args)
        attention = self_attention(width, heads, bias=f"{first}.qkv.bias" in bare, qk_norm=norm)
        hidden, out = bare["blocks.0.mlp.fc1.weight"][0], bare["blocks.0.mlp.fc2.weight"][1]
        if hidden != out:
            raise InputError(f"blocks.0.mlp: fc1 gives {hidden}, fc2 takes {out}: a gated MLP", "Not supported.")
        ffn = Mlp(act=known_activation(args.get("act_layer") or "gelu", self.name)), hidden
        count = 1 + max(int(name.split(".")[1]) for name in bare if name.startswith("blocks."))
        add_blocks(draft, count, attention, ffn, NORM, post=False, scale="blocks.0.ls1.gamma" in bare)

    def _heads(self, pool: str, draft: Draft, bare: Shapes) -> None:
        """``final`` holds ``norm`` where there is one; ``fc_norm`` comes after pooling."""
        add_final(draft, NORM if "norm.weight" in bare else None)
        tokens = stem_tokens(draft)
        if "dist" in tokens and pool != "token":
            raise InputError(f"config.json: global_pool={pool!r} with a distillation token", "Use 'token'.")
        if "dist" in tokens:
            if "head.weight" in bare:
                add_classifiers(draft, bare["head.weight"][0], 2)
            return
        how = Pool(mode="mean", index=len(tokens)) if pool == "avg" else Pool()
        layers = [plain("pool", how)]
        if "fc_norm.weight" in bare:
            layers.append((Layer("norm", None, pre=NORM, residual=False), {}))
        draft.block("pooled", *layers, inputs=("final",))
        draft.output("pooled", "pooled")
        if "head.weight" in bare:
            draft.sizes["classes"] = bare["head.weight"][0]
            draft.block("head", plain("score", Dense(into="classes", bias="head.bias" in bare)))
            draft.output("logits", "head")

    def write(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.write`: timm's ``config.json``; ``model_args`` says what the name does not."""
        now, before = _args(arch), json.loads(str(arch.fact["args"]))
        said = dict(base.get("model_args") or {})
        changed = {k: v for k, v in now.items() if not base or v != before[k]}
        derived: dict[str, Any] = {"model_args": {**said, **changed}} if changed else {}
        if not base:
            derived["architecture"] = arch.fact["architecture"]
            derived["num_classes"], derived["num_features"] = now["num_classes"], arch.size["s0.width"]
            derived |= {"model_type": "timm_wrapper"} if arch.fact["wrapped"] else {}
        current = {"num_classes": now["num_classes"], "num_features": arch.size["s0.width"]}
        return overlay(base, {**{k: v for k, v in current.items() if k in base}, **derived})

    def names(self, arch: Architecture) -> tuple[Entry, ...]:
        """See `Family.names`."""
        at, stem = str(arch.fact["prefix"]), stem_of(arch)
        entries = [entry(f"{at}{TOKENS[t]}", f"embed.patches.{t}", lead=2) for t in stem.tokens]
        entries.append(entry(f"{at}pos_embed", "embed.patches.position", lead=1))
        entries += linear(f"{at}patch_embed.proj", "embed.patches.patches", bias=stem.bias)
        for i, block in enumerate(arch.stage("s0")):
            entries += _block_names(f"{at}blocks.{i}", block)
        if arch.block("final").layers[0].pre:
            entries += norm_names(f"{at}norm", "final.norm.pre")
        return (*entries, *_head_names(arch, at))

    def carried(self, name: str) -> bool:
        """Nothing: timm's files hold only what is computed with."""
        return False

    def carried_axes(self, name: str, arch: Architecture) -> tuple[str, ...]:
        """See `Family.carried_axes`."""
        return ()


def stem_tokens(draft: Draft) -> tuple[str, ...]:
    """The extra tokens of a draft's stem."""
    op = draft.blocks[0].layers[0].op
    assert isinstance(op, PatchStem)
    return op.tokens


def _args(arch: Architecture) -> dict[str, Any]:
    """The arguments that rebuild this architecture with timm; None where one number cannot say it."""
    stem, ops = stem_of(arch), attentions(arch)
    hidden, width = uniform(arch, "ffn.hidden"), arch.size["s0.width"]
    image = [int(arch.fact["image_height"]), int(arch.fact["image_width"])]
    pooled = arch.block("pooled").layers if "pooled" in arch.index else ()
    mean = any(isinstance(layer.op, Pool) and layer.op.mode == "mean" for layer in pooled)
    acts = {layer.op.act for b in arch.stage("s0") for layer in b.layers if isinstance(layer.op, Mlp)}
    distilled = "dist" in stem.tokens
    plain_only = {} if distilled else {"global_pool": "avg" if mean else "token", "fc_norm": len(pooled) > 1}
    return {
        "img_size": image, "patch_size": list(stem.patch), "in_chans": arch.size["channels"],
        "embed_dim": width, "depth": len(arch.stage("s0")), "num_heads": stock_heads(arch),
        "mlp_ratio": None if hidden is None else _ratio(hidden, width),
        "qkv_bias": all(op.bias for op in ops),
        "qk_norm": any(op.qk_norm for op in ops), "class_token": "cls" in stem.tokens,
        "no_embed_class": bool(stem.tokens) and not stem.token_positions,
        "init_values": 1e-5 if any(layer.scale for b in arch.stage("s0") for layer in b.layers) else None,
        "act_layer": acts.pop() if len(acts) == 1 else None,
        "num_classes": arch.size.get("classes", 0), **plain_only,
    }  # fmt: skip


def _ratio(hidden: int, width: int) -> float:
    """A ratio whose product with ``width``, rounded down, is ``hidden``."""
    plain_ratio = hidden / width
    return plain_ratio if int(width * plain_ratio) == hidden else (hidden + 0.5) / width


def _block_names(at: str, block: Block) -> list[Entry]:
    entries: list[Entry] = []
    for i, layer in enumerate(block.layers, start=1):
        place = f"{block.name}.{layer.name}"
        number = {"attn": 1, "ffn": 2}.get(layer.name, i)
        entries += norm_names(f"{at}.norm{number}", f"{place}.pre")
        if layer.scale:
            entries.append(entry(f"{at}.ls{number}.gamma", f"{place}.scale"))
        if isinstance(layer.op, Attention):
            entries += _attention_names(f"{at}.attn", place, layer.op)
        else:
            entries += [*linear(f"{at}.mlp.fc1", f"{place}.fc1", bias=True)]
            entries += [*linear(f"{at}.mlp.fc2", f"{place}.fc2", bias=True)]
    return entries


def _attention_names(at: str, place: str, op: Attention) -> list[Entry]:
    entries = linear(f"{at}.qkv", f"{place}.q", f"{place}.k", f"{place}.v", bias=op.bias)
    entries += linear(f"{at}.proj", f"{place}.o", bias=op.out_bias)
    norms = ("q_norm", "k_norm") if op.qk_norm else ()
    return [*entries, *(e for norm in norms for e in norm_names(f"{at}.{norm}", f"{place}.{norm}"))]


def _head_names(arch: Architecture, at: str) -> list[Entry]:
    entries: list[Entry] = []
    if "pooled" in arch.index and len(arch.block("pooled").layers) > 1:
        entries += norm_names(f"{at}fc_norm", "pooled.norm.pre")
    files = {"head": "head"} if "cls_head" not in arch.index else {"cls_head": "head", "dist_head": "head_dist"}
    for block, file in files.items():
        if block in arch.index:
            op = arch.block(block).layers[-1].op
            assert isinstance(op, Dense)
            entries += linear(f"{at}{file}", f"{block}.score.proj", bias=op.bias)
    return entries
