"""PatchTST (Nie et al. 2023) under Hugging Face's names: body, forecaster, classifier, regressor.

A second model type, ``patchtst_supervised``, is the paper's own code, whose forecasters differ in two switches that
transformers lacks: ``res_attention`` (scores are added up over the layers) and ``padding_patch`` (``"end"``: the last
row is repeated for one more patch). Its files have names of their own, which a name table maps.

With attention across channels a layer is two blocks: the second calls the attention of the first again, along the
other axis of the tokens, with a norm of its own.

Not supported, by name: distribution heads, masked pre-training (masks are drawn anew in every pass), a bounded
regression output, and one projection per channel in the forecaster, which transformers itself does not run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from archtool.errors import InputError
from archtool.families.base import Draft, Shapes, known_activation, uniform
from archtool.families.config import Config
from archtool.families.encoder import activation_name, norm_names, plain, self_attention, settled, stock_heads
from archtool.families.names import Entry, entry, linear
from archtool.ir.architecture import Architecture, Block, Layer, NormSpec
from archtool.operators.attention import Attention
from archtool.operators.axis import AlongAxes
from archtool.operators.dense import Dense
from archtool.operators.forecast import Forecast
from archtool.operators.mlp import Mlp
from archtool.operators.residual_attention import ResidualAttention
from archtool.operators.revin import RevIn
from archtool.operators.series_stem import SeriesStem
from archtool.operators.variate_head import VariateHead

DEFAULTS: Mapping[str, Any] = {
    "num_input_channels": 1, "context_length": 32, "patch_length": 1, "patch_stride": 1, "num_hidden_layers": 3,
    "d_model": 128, "num_attention_heads": 4, "share_embedding": True, "channel_attention": False, "ffn_dim": 512,
    "norm_type": "batchnorm", "norm_eps": 1e-5, "bias": True, "activation_function": "gelu", "pre_norm": True,
    "positional_encoding_type": "sincos", "use_cls_token": False, "scaling": "std", "pooling_type": "mean",
    "prediction_length": 24, "num_targets": 1,
}  # fmt: skip
SUPERVISED = "patchtst_supervised"
OWN_DEFAULTS: Mapping[str, Any] = {"res_attention": True, "padding_patch": "end"}
IGNORED = (
    "attention_dropout", "positional_dropout", "path_dropout", "ff_dropout", "head_dropout", "init_std",
    "distribution_output", "num_parallel_samples", "mask_type", "random_mask_ratio", "num_forecast_mask_patches",
    "channel_consistent_masking", "unmasked_channel_indices", "mask_value",
)  # fmt: skip
NORMS = {"batchnorm": "batch", "layernorm": "layer"}
SCALINGS = {"std": RevIn(variates=1), "mean": RevIn(variates=1, mode="mean", eps=1e-10)}
POSITIONS = {"sincos": "fixed", "random": "learned"}
PROJECTIONS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "out_proj"}
HEADS = {"Prediction": "head.projection", "Classification": "head.linear", "Regression": "head.projection"}
SUBLAYERS = {"attn": 1, "across": 2, "back": 2, "ffn": 3}
LEAVES = ("weight", "bias", "running_mean", "running_var")


class PatchTst:
    """Reads and writes PatchTST."""

    name = "patchtst"
    model_types: tuple[str, ...] = ("patchtst", SUPERVISED)
    classes: ClassVar[str] = "PatchTSTFor"

    def read(self, config: Mapping[str, Any], shapes: Shapes) -> Architecture:
        """See `Family.read`."""
        c = Config(config, self.name)
        kind = c.expect("model_type", self.model_types, self.name)
        head = _head_of(c, shapes)
        draft = Draft(self.name, ("past_values",))
        draft.facts.update(
            prefix="model." if head else "", series_length=_number(c, "context_length"), head=head, model_type=kind
        )
        stem = self._embed(c, draft, kind == SUPERVISED)
        self._blocks(c, draft, kind == SUPERVISED)
        draft.block("final", plain("norm", None))
        draft.block("hidden", plain("table", VariateHead(variates=stem.variates)))
        draft.output("hidden", "hidden")
        self._head(c, draft, head, shapes)
        c.ignore((*IGNORED, "pooling_type", "prediction_length", "num_targets", "loss", "output_range"))
        c.ignore(("share_projection", "do_mask_input") if head != "Prediction" else ("do_mask_input",))
        c.finish()
        return draft.done()

    def _embed(self, c: Config, draft: Draft, own: bool) -> SeriesStem:
        patch, stride, rows = (_number(c, key) for key in ("patch_length", "patch_stride", "context_length"))
        if rows <= patch:
            raise InputError(f"config.json: context_length {rows} is not above patch_length {patch}", "Correct them.")
        padded = own and c.expect("padding_patch", ("end", None, "None"), OWN_DEFAULTS["padding_patch"]) == "end"
        if own and (rows - patch) % stride:
            raise InputError(f"config.json: patch_stride {stride} leaves a rest of the rows", "Not supported here.")
        cls = bool(_value(c, "use_cls_token"))
        kind = c.expect("positional_encoding_type", tuple(POSITIONS), DEFAULTS["positional_encoding_type"])
        stem = SeriesStem(
            variates=_number(c, "num_input_channels"), patch=patch, stride=stride, pad=stride if padded else 0,
            shared=bool(_value(c, "share_embedding")), tokens=("cls",) if cls else (), positions=POSITIONS[kind],
        )  # fmt: skip
        draft.sizes["s0.width"] = _number(c, "d_model")
        scale = _scaling(c, stem.variates)
        layers = [plain("scale", scale)] if scale else []
        draft.block("embed", *layers, plain("patches", stem, positions=stem.patches(rows) + cls))
        return stem

    def _blocks(self, c: Config, draft: Draft, own: bool) -> None:
        across = c.expect("channel_attention", (False,) if own else (False, True), False)
        norm_type = c.expect("norm_type", tuple(NORMS), DEFAULTS["norm_type"])
        norm = NormSpec(NORMS[norm_type], float(_value(c, "norm_eps")))
        where: dict[str, Any] = {"pre" if _value(c, "pre_norm") else "post": norm}
        width, heads = draft.sizes["s0.width"], _number(c, "num_attention_heads")
        attention, sizes = self_attention(width, heads)
        act = known_activation(_value(c, "activation_function"), self.name)
        ffn, hidden = Mlp(act=act, bias=bool(_value(c, "bias"))), {"hidden": _number(c, "ffn_dim")}
        chained = own and bool(c.take("res_attention", OWN_DEFAULTS["res_attention"]))
        for i in range(_number(c, "num_hidden_layers")):
            op: Attention = attention
            if chained:
                op = ResidualAttention(scale=attention.scale, after=f"b{i - 1}.attn" if i else "")
            attn, last = (Layer("attn", op, **where), sizes), (Layer("ffn", ffn, **where), hidden)
            if across:
                draft.block(f"b{i}", attn, stage="s0")
                again = (*_across(op, norm, pre="pre" in where), last[0])
                draft.blocks.append(Block(f"b{i}v", again, share=f"b{i}", stage="s0"))
                draft.sizes[f"b{i}.ffn.hidden"] = hidden["hidden"]
            else:
                draft.block(f"b{i}", attn, last, stage="s0")

    def _head(self, c: Config, draft: Draft, head: str, shapes: Shapes) -> None:
        if not head:
            c.expect("do_mask_input", (None, False), None)
            return
        stem = _stem(draft.blocks)
        pool = "first" if stem.tokens else _nullable(c, "pooling_type", ("mean", "max", None)) or ""
        if head != "Classification":
            c.expect("loss", ("mse",), "mse")
        if head == "Prediction":
            c.expect("share_projection", (True,), True)
            rows = _told(c, "prediction_length", shapes)
            tokens = 0 if pool else draft.sizes["embed.patches.positions"]
            layers = [plain("future", Forecast(variates=stem.variates, tokens=tokens, pool=pool), horizon=rows)]
            scale = draft.blocks[0].layers[0].op
            if isinstance(scale, RevIn):
                layers.append(plain("restore", _restoring(scale)))
            draft.block("head", *layers, inputs=("final",))
            draft.output("forecast", "head")
            return
        c.expect("output_range", (None,), None)
        if not pool:
            raise InputError("config.json: pooling_type=None is not supported with this head", "Use mean or max.")
        draft.sizes["classes"] = _told(c, "num_targets", shapes)
        pooled = plain("pool", VariateHead(variates=stem.variates, pool=pool))
        draft.block("head", pooled, plain("score", Dense(into="classes")), inputs=("final",))
        draft.output("logits", "head")

    def write(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.write`; a size that one number cannot say is None (dialects say it)."""
        stem, first = _stem(arch.blocks), arch.stage("s0")[0].layers[0]
        owners = {block.owner for block in arch.stage("s0")}
        norm = first.pre or first.post
        assert norm is not None
        ffns = {op.bias for b in arch.stage("s0") for op in (x.op for x in b.layers) if isinstance(op, Mlp)}
        derived: dict[str, Any] = {
            "model_type": arch.fact["model_type"],
            "num_input_channels": stem.variates,
            "context_length": arch.fact["series_length"],
            "patch_length": stem.patch,
            "patch_stride": stem.stride,
            "num_hidden_layers": len(owners),
            "channel_attention": len(owners) < len(arch.stage("s0")),
            "d_model": arch.size["s0.width"],
            "num_attention_heads": stock_heads(arch),
            "share_embedding": stem.shared,
            "ffn_dim": uniform(arch, "ffn.hidden"),
            "norm_type": next(name for name, kind in NORMS.items() if kind == norm.kind),
            "norm_eps": norm.eps,
            "bias": ffns.pop() if len(ffns) == 1 else None,
            "activation_function": activation_name(arch, base.get("activation_function")),
            "pre_norm": first.pre is not None,
            "positional_encoding_type": next(n for n, kind in POSITIONS.items() if kind == stem.positions),
            "use_cls_token": bool(stem.tokens),
            "scaling": _said_scaling(arch, base),
            **_head_keys(arch),
            **self._own_keys(arch, stem),
        }
        if not base:
            derived["architectures"] = [f"{self.classes}{arch.fact['head']}" if arch.fact["head"] else "PatchTSTModel"]
        return settled(base, derived, {**DEFAULTS, **OWN_DEFAULTS})

    def _own_keys(self, arch: Architecture, stem: SeriesStem) -> dict[str, Any]:
        if arch.fact["model_type"] != SUPERVISED:
            return {}
        chained = any(isinstance(p.layer.op, ResidualAttention) for p in arch.places)
        return {"res_attention": chained, "padding_patch": "end" if stem.pad else "None"}

    def names(self, arch: Architecture) -> tuple[Entry, ...]:
        """See `Family.names`."""
        at, stem = f"{arch.fact['prefix']}encoder", _stem(arch.blocks)
        file, part = f"{at}.embedder.input_embedding", "embed.patches.project"
        entries = linear(file, part, bias=True) if stem.shared else []
        for i in range(0 if stem.shared else stem.variates):
            entries += linear(f"{file}.{i}", f"{part}{i}", bias=True)
        entries += [entry(f"{at}.positional_encoder.{t}_token", f"embed.patches.{t}", lead=3) for t in stem.tokens]
        entries.append(entry(f"{at}.positional_encoder.position_enc", "embed.patches.position"))
        numbers = {owner: i for i, owner in enumerate(dict.fromkeys(b.owner for b in arch.stage("s0")))}
        for block in arch.stage("s0"):
            entries += _block_names(f"{at}.layers.{numbers[block.owner]}", block)
        head = str(arch.fact["head"])
        if head:
            last = "head.future.proj" if head == "Prediction" else "head.score.proj"
            entries += linear(HEADS[head], last, bias=True)
        return tuple(entries)

    def carried(self, name: str) -> bool:
        """The count of batches that BatchNorm has seen, which no evaluation uses."""
        return name.endswith(".num_batches_tracked")

    def carried_axes(self, name: str, arch: Architecture) -> tuple[str, ...]:
        """See `Family.carried_axes`."""
        return ()


def _head_of(c: Config, shapes: Shapes) -> str:
    """``""`` for the body, else which head: as ``architectures`` says, or as the tensors show."""
    said = (c.take("architectures", None) or [""])[0]
    if not said:
        found = [head for head, file in HEADS.items() if f"{file}.weight" in shapes]
        return found[0] if found else ""
    head = str(said).removeprefix(PatchTst.classes)
    if said != "PatchTSTModel" and head not in HEADS:
        raise InputError(
            f"config.json: the class {said} is not supported for {PatchTst.name}",
            f"Supported: PatchTSTModel, {', '.join(f'{PatchTst.classes}{name}' for name in HEADS)}.",
        )
    return "" if said == "PatchTSTModel" else head


def _told(c: Config, key: str, shapes: Shapes) -> int:
    """A size of the head: as said, else as its bias shows, else the class' default."""
    biases = [shapes[f"{file}.bias"][0] for file in HEADS.values() if f"{file}.bias" in shapes]
    return c.number(key, biases[0] if biases else DEFAULTS[key])


def _nullable(c: Config, key: str, allowed: tuple[Any, ...]) -> Any:
    """A value for which null says something else than a missing key."""
    found = c.expect(key, (*allowed, DEFAULTS[key]), DEFAULTS[key])
    return None if key in c.values and c.values[key] is None else found


def _scaling(c: Config, variates: int) -> RevIn | None:
    """How the series is scaled, or None; ``true`` means by the mean."""
    found = c.values.get("scaling", DEFAULTS["scaling"])
    c.ignore(("scaling",))
    if found is None or found is False:
        return None
    name = "mean" if found is True else found
    if name not in SCALINGS:
        raise InputError(f"config.json: scaling={found!r} is not supported for {c.family}", "Use std, mean or null.")
    like = SCALINGS[name]
    return RevIn(variates=variates, mode=like.mode, eps=like.eps)


def _restoring(scale: RevIn) -> RevIn:
    return RevIn(variates=scale.variates, mode=scale.mode, eps=scale.eps, restore=True)


def _said_scaling(arch: Architecture, base: Mapping[str, Any]) -> Any:
    """The scaling as ``base`` spells it where it means the same."""
    op = arch.block("embed").layers[0].op
    now = op.mode if isinstance(op, RevIn) else None
    said = base.get("scaling", DEFAULTS["scaling"])
    return said if {True: "mean", False: None}.get(said, said) == now else now


def _head_keys(arch: Architecture) -> dict[str, Any]:
    """What the head says of itself; a class token leaves nothing to pool."""
    head = arch.fact["head"]
    if not head:
        return {}
    op = arch.block("head").layers[0].op
    assert isinstance(op, Forecast | VariateHead)
    pool = {} if op.pool == "first" else {"pooling_type": op.pool or None}
    if head == "Prediction":
        return {**pool, "prediction_length": arch.size["head.future.horizon"]}
    return {**pool, "num_targets": arch.size["classes"]}


def _stem(blocks: tuple[Block, ...] | list[Block]) -> SeriesStem:
    op = blocks[0].layers[-1].op
    assert isinstance(op, SeriesStem)
    return op


def _across(attention: Attention, norm: NormSpec, *, pre: bool) -> tuple[Layer, ...]:
    """The same attention between the channels at one place in time, as one residual branch with a norm of its own."""
    there, back = AlongAxes(before=(1,), now=(0,)), AlongAxes(before=(0,), now=(1,))
    return (
        Layer("across", there, pre=norm if pre else None, residual=False),
        Layer("attn", attention, residual=False),
        Layer("back", back, post=None if pre else norm, since="across"),
    )


def _block_names(at: str, block: Block) -> list[Entry]:
    entries: list[Entry] = []
    for layer in block.layers:
        place = f"{block.owner}.{layer.name}"
        if isinstance(layer.op, Attention) and not block.share:
            for part, file in PROJECTIONS.items():
                entries += linear(f"{at}.self_attn.{file}", f"{place}.{part}", bias=True)
        elif isinstance(layer.op, Mlp):
            for part, file in (("fc1", "ff.0"), ("fc2", "ff.3")):
                entries += linear(f"{at}.{file}", f"{place}.{part}", bias=layer.op.bias)
        entries += _layer_norm_names(f"{at}.norm_sublayer{SUBLAYERS[layer.name]}", place, layer)
    return entries


def _layer_norm_names(at: str, place: str, layer: Layer) -> list[Entry]:
    """A norm before the operator or behind the sum, with BatchNorm's running statistics."""
    where, norm = ("pre", layer.pre) if layer.pre else ("post", layer.post)
    if norm is None:
        return []
    if norm.kind != "batch":
        return norm_names(at, f"{place}.{where}")
    return [entry(f"{at}.batchnorm.{leaf}", f"{place}.{where}.{leaf}") for leaf in LEAVES]


def _value(c: Config, key: str) -> Any:
    return c.take(key, DEFAULTS[key])


def _number(c: Config, key: str) -> int:
    return c.number(key, DEFAULTS[key])
