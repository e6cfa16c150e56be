"""Mamba (Gu and Dao 2023): blocks of one selective state space each, RMSNorm, no feed-forward layers, no positions.

``residual_in_fp32`` is kept and written back; here the stream has the dtype of the weights, so that it only differs
where these are not float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from archtool.errors import InputError
from archtool.families.base import Draft, Shapes, known_activation, uniform
from archtool.families.config import Config
from archtool.families.decoder import Decoder, common, norm_names, norms, operators, plain
from archtool.families.names import Entry, entry, linear
from archtool.ir.architecture import Architecture, Block, Layer, NormSpec
from archtool.operators.activation import spelled
from archtool.operators.ssm import Ssm
from archtool.operators.token_stem import TokenStem

IMPLIED: Mapping[str, str] = {"d_model": "hidden_size", "n_layer": "num_hidden_layers"}
"""Notes of converted checkpoints that repeat another key."""


class Mamba(Decoder):
    """Reads and writes Mamba."""

    name = "mamba"
    model_types: tuple[str, ...] = ("mamba",)
    classes: ClassVar[Mapping[str, str]] = {"mamba": "Mamba"}
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "mamba": {
            "vocab_size": 50280, "hidden_size": 768, "state_size": 16, "num_hidden_layers": 32, "expand": 2,
            "conv_kernel": 4, "hidden_act": "silu", "time_step_rank": "auto", "tie_word_embeddings": True,
        }
    }  # fmt: skip
    body, embed, norm = "backbone.", "embeddings", "norm_f"
    ignored: tuple[str, ...] = (
        "time_step_scale", "time_step_min", "time_step_max", "time_step_init_scheme", "time_step_floor",
        "rescale_prenorm_residual", "use_mambapy", "use_associative_scan", "fused_add_norm", "pad_vocab_size_multiple",
    )  # fmt: skip
    off: ClassVar[Mapping[str, Any]] = {"rms_norm": True, "ssm_cfg": {}}

    def _head_kind(self, c: Config, shapes: Shapes) -> str:
        kind = super()._head_kind(c, shapes)
        if kind not in ("lm", ""):
            raise InputError("a mamba checkpoint with a classifier is not supported", "transformers has no such class.")
        return kind

    def _body(self, c: Config, draft: Draft) -> None:
        width = c.number("hidden_size")
        inner = width * c.number("expand")
        draft.facts["residual_in_fp32"] = bool(c.take("residual_in_fp32", True))
        for note, said in {**{note: c.take(key) for note, key in IMPLIED.items()}, **_inner_notes(inner)}.items():
            c.expect(note, (said,), said)
        draft.sizes.update({"vocab": c.number("vocab_size"), "s0.width": width})
        draft.block("embed", plain("tokens", TokenStem()))
        op = Ssm(
            kernel=c.number("conv_kernel"), act=known_activation(c.take("hidden_act"), self.name),
            bias=bool(c.take("use_bias", False)), conv_bias=bool(c.take("use_conv_bias", True)),
        )  # fmt: skip
        auto = c.take("time_step_rank") == "auto"
        rank = math.ceil(width / 16) if auto else c.number("time_step_rank")
        sizes = {"inner": inner, "state": c.number("state_size"), "rank": rank}
        for i in range(c.number("num_hidden_layers")):
            draft.block(f"b{i}", (Layer("ssm", op, pre=self._norm(c)), sizes), stage="s0")

    def _norm(self, c: Config) -> NormSpec:
        return NormSpec("rms", float(c.take("layer_norm_epsilon", 1e-5)), bias=False)

    def write(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.write`; notes that repeat another key follow it."""
        derived = self._config(arch)
        inner = derived["expand"] and derived["expand"] * derived["hidden_size"]
        notes = {**{note: derived[key] for note, key in IMPLIED.items()}, **_inner_notes(inner)}
        return super().write(arch, {**base, **{note: value for note, value in notes.items() if note in base}})

    def _config(self, arch: Architecture) -> dict[str, Any]:
        inner, width = uniform(arch, "ssm.inner"), arch.size["s0.width"]
        ops = operators(arch, Ssm)
        act = common(op.act for op in ops)
        return {
            "vocab_size": arch.size["vocab"],
            "hidden_size": width,
            "num_hidden_layers": len(arch.stage("s0")),
            "expand": inner // width if inner and inner % width == 0 else None,
            "state_size": uniform(arch, "ssm.state"),
            "time_step_rank": uniform(arch, "ssm.rank"),
            "conv_kernel": common(op.kernel for op in ops),
            "hidden_act": spelled(act) if act else None,
            "use_bias": common(op.bias for op in ops),
            "use_conv_bias": common(op.conv_bias for op in ops),
            "layer_norm_epsilon": common(n.eps for n in norms(arch)),
            "residual_in_fp32": arch.fact["residual_in_fp32"],
        }

    def _block_names(self, at: str, block: Block) -> list[Entry]:
        (layer,) = block.layers
        op, b = layer.op, f"{block.name}.{layer.name}"
        assert isinstance(op, Ssm)
        return [
            *norm_names(f"{at}.norm", f"{b}.pre", layer.pre),
            *linear(f"{at}.mixer.in_proj", f"{b}.enter", bias=op.bias),
            *linear(f"{at}.mixer.conv1d", f"{b}.conv", bias=op.conv_bias),
            *linear(f"{at}.mixer.x_proj", f"{b}.select", bias=False),
            *linear(f"{at}.mixer.dt_proj", f"{b}.step", bias=False),
            entry(f"{at}.mixer.dt_proj.bias", f"{b}.step_bias"),
            entry(f"{at}.mixer.A_log", f"{b}.decay"),
            entry(f"{at}.mixer.D", f"{b}.skip"),
            *linear(f"{at}.mixer.out_proj", f"{b}.leave", bias=op.bias),
        ]


def _inner_notes(inner: int | None) -> dict[str, Any]:
    """Keys that repeat ``expand × hidden_size``; transformers computes it and does not read them."""
    return {"intermediate_size": inner, "d_inner": inner}
