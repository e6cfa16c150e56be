"""timm's configuration of a ViT: ``model_args``, the table of names, and what shapes leave open."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

from archtool.errors import InputError
from archtool.families.base import Shapes
from archtool.families.config import Config
from archtool.families.vision_encoder import pair

HEADS = {
    "tiny": 3, "small": 6, "medium": 8, "base": 12, "large": 16, "huge": 16, "giant": 16, "gigantic": 16,
}  # fmt: skip
KINDS = ("vit", "deit", "deit3")
OTHER_FUNCTIONS = ("rpn", "clip", "siglip", "quickgelu", "parallel", "rope")
SHOWN_BY_TENSORS = (
    "patch_size", "in_chans", "embed_dim", "depth", "mlp_ratio", "qkv_bias", "qk_norm", "init_values",
    "class_token", "no_embed_class", "fc_norm", "num_classes", "num_heads", "img_size", "global_pool",
    "act_layer",
)  # fmt: skip
INERT = (
    "drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate",
    "weight_init", "dynamic_img_size", "dynamic_img_pad", "fix_init",
)  # fmt: skip


def model_args(c: Config) -> dict[str, Any]:
    """``model_args`` with every key known; anything else could change the function."""
    args = dict(c.take("model_args", None) or {})
    unknown = sorted(set(args) - set(SHOWN_BY_TENSORS) - set(INERT))
    if unknown:
        raise InputError(
            f"config.json: model_args has {', '.join(unknown)}, not supported for {c.family}",
            "Remove the keys if they do not change what is computed.",
        )
    return args


def refuse_variants(architecture: str, bare: Shapes) -> None:
    """Stop at relatives that have a ViT's tensor names but compute something else."""
    words = architecture.split(".")[0].split("_")
    wrong = [word for word in words if word in OTHER_FUNCTIONS]
    if architecture and (words[0] not in KINDS or wrong):
        raise InputError(
            f"config.json: architecture {architecture!r} is not a plain timm ViT or DeiT",
            f"Supported: {', '.join(KINDS)} without {', '.join(OTHER_FUNCTIONS)}.",
        )
    extra = [n for n in ("norm_pre.weight", "reg_token", "attn_pool.latent", "pre_logits.fc.weight") if n in bare]
    if extra:
        raise InputError(f"a timm ViT with {', '.join(extra)} is not supported", "Use a plain ViT or DeiT.")


def head_count(architecture: str, args: Mapping[str, Any]) -> int:
    """Number of attention heads: said, or known from the size in the name. Shapes do not tell it."""
    if args.get("num_heads"):
        return int(args["num_heads"])
    sizes = [word for word in architecture.split(".")[0].split("_") if word in HEADS]
    if not sizes:
        raise InputError(
            f"the number of heads of a timm ViT is not in its tensors, nor in the name {architecture!r}",
            "Give it: model_args.num_heads in config.json, or a name table (--names) for these weights.",
        )
    return HEADS[sizes[0]]


def pooling(c: Config, args: Mapping[str, Any], bare: Shapes) -> str:
    """``"token"`` or ``"avg"``: said, or shown by ``fc_norm`` or by the lack of a class token."""
    words = str(c.take("architecture", "")).split(".")[0].split("_")
    shown = "fc_norm.weight" in bare or "cls_token" not in bare or "gap" in words
    said = args.get("global_pool") or c.take("global_pool", None) or ("avg" if shown else "token")
    if said not in ("token", "avg"):
        raise InputError(f"config.json: global_pool={said!r} is not supported", "Supported: 'token', 'avg'.")
    return str(said)


def image_size(
    c: Config, args: Mapping[str, Any], positions: int, tokens: int, patch: tuple[int, int]
) -> tuple[int, int]:
    """Height and width: said where that fits the position table, else square by the table's length."""
    pretrained = dict(c.take("pretrained_cfg", None) or {})
    said = args.get("img_size") or list(pretrained.get("input_size") or (0, 0, 0))[1:]
    both = pair(said, "img_size") if said and said != [0, 0] else (0, 0)
    cells = (both[0] // patch[0]) * (both[1] // patch[1])
    if cells and positions - cells in (0, tokens):
        return both
    for count in (positions - tokens, positions):
        if isqrt(count) ** 2 == count:
            return isqrt(count) * patch[0], isqrt(count) * patch[1]
    raise InputError(
        f"pos_embed has {positions} rows, which is no square grid with {tokens} extra tokens or without",
        "Give model_args.img_size in config.json.",
    )


def check_agreement(config: Mapping[str, Any], args: Mapping[str, Any], sizes: Mapping[str, int], classes: int) -> None:
    """What the configuration says must be what the tensors show."""
    depth = len({axis.split(".")[0] for axis in sizes if axis.endswith("ffn.hidden")})
    shown = {
        "embed_dim": sizes["s0.width"],
        "depth": depth,
        "num_classes": classes,
        "in_chans": sizes["channels"],
    }
    said = {key: args.get(key) for key in shown}
    if said["num_classes"] is None:
        said["num_classes"] = config.get("num_classes")
    for key, value in said.items():
        if value is not None and value != shown[key]:
            raise InputError(f"config.json: {key}={value}, the tensors show {shown[key]}", f"Correct {key}.")
