"""T5 and mT5 (Raffel et al. 2020; v1.1 and FLAN gated): pre-norm RMS, relative biases shared by all blocks, no biases.

    embed → e0 … → encoded;  decoder_embed (one table) → d0 … reading encoded → final → head

A file without decoder tensors holds `T5EncoderModel`. Whether the head is tied is told by the file; whether its input
is divided by the square root of the width by ``scale_decoder_outputs``, or by ``tie_word_embeddings`` in old files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from archtool.families.base import Draft, Shapes, known_activation
from archtool.families.config import Config
from archtool.families.decoder import common, norm_names, operators, plain
from archtool.families.encoder import settled
from archtool.families.names import Entry, entry, linear
from archtool.families.seq2seq import INPUTS, STACKS, common_size, norms
from archtool.ir.architecture import Architecture, Block, Layer, NormSpec
from archtool.operators.activation import canonical
from archtool.operators.biased_attention import BiasedAttention
from archtool.operators.cross_attention import CrossAttention
from archtool.operators.glu import Glu
from archtool.operators.lm_head import LmHead
from archtool.operators.mlp import Mlp
from archtool.operators.token_stem import TokenStem

BODY: Mapping[str, Any] = {
    "vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8,
    "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "relu",
}  # fmt: skip
MULTILINGUAL = {"vocab_size": 250112, "d_ff": 1024, "num_layers": 8, "num_heads": 6, "feed_forward_proj": "gated-gelu"}
DEFAULTS: Mapping[str, Mapping[str, Any]] = {"t5": BODY, "mt5": {**BODY, **MULTILINGUAL}}
TABLES = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"


class T5:
    """Reads and writes T5."""

    name = "t5"
    model_types: tuple[str, ...] = ("t5", "mt5")
    classes: ClassVar[Mapping[str, str]] = {"t5": "T5", "mt5": "MT5"}

    def read(self, config: Mapping[str, Any], shapes: Shapes) -> Architecture:
        """See `Family.read`."""
        kind = Config(config, self.name).expect("model_type", self.model_types, self.name)
        c = Config({**DEFAULTS[kind], **config}, self.name)
        suffix = str((c.take("architectures", None) or [""])[0]).removeprefix(self.classes[kind])
        alone = "decoder.final_layer_norm.weight" not in shapes if shapes else suffix == "EncoderModel"
        draft = Draft(self.name, INPUTS[:1] if alone else INPUTS)
        draft.facts["model_type"] = kind
        draft.facts["tables"] = ",".join(name for name in TABLES if name in shapes) or TABLES[0]
        draft.sizes.update({"vocab": c.number("vocab_size"), "s0.width": c.number("d_model")})
        draft.block("embed", plain("tokens", TokenStem()))
        self._stack(c, draft, "encoder", c.number("num_layers"))
        depth = c.number("num_decoder_layers", c.number("num_layers"))
        if not alone:
            stem = plain("tokens", TokenStem(tie="embed.tokens.token"))
            draft.block("decoder_embed", stem, inputs=INPUTS[1:])
            self._stack(c, draft, "decoder", depth)
        draft.output("hidden", "encoded" if alone else "final")
        self._head(c, draft, shapes, suffix, alone)
        c.expect("is_encoder_decoder", (True, False), True)
        c.ignore(("dropout_rate", "classifier_dropout", "n_positions", "output_past", "tie_word_embeddings"))
        c.ignore(("scale_decoder_outputs", "model_type"))
        c.finish()
        return draft.done()

    def _stack(self, c: Config, draft: Draft, stack: str, depth: int) -> None:
        (prefix, stage, last), norm = STACKS[stack], NormSpec("rms", float(c.take("layer_norm_epsilon")))
        buckets, distance = c.number("relative_attention_num_buckets"), c.number("relative_attention_max_distance")
        heads = {"kv": c.number("num_heads"), "group": 1, "qk": c.number("d_kv"), "v": c.number("d_kv")}
        cross = Layer("cross", CrossAttention(scale=1.0, bias=False, out_bias=False), pre=norm, reads=("encoded",))
        ffn = Layer("ffn", self._ffn(c), pre=norm), {"hidden": c.number("d_ff")}
        for i in range(depth):
            attention = BiasedAttention(
                scale=1.0, causal=stack == "decoder", bias=False, out_bias=False, buckets=buckets, distance=distance,
                tie=f"{prefix}0.attn.bias" if i else "",
            )  # fmt: skip
            layers = [(Layer("attn", attention, pre=norm), heads), *([(cross, heads)] * (stack == "decoder")), ffn]
            draft.block(f"{prefix}{i}", *layers, stage=stage)
        draft.block(last, plain("norm", None, pre=norm))

    def _ffn(self, c: Config) -> Mlp | Glu:
        act, gated = _feed_forward(c.take("feed_forward_proj"))
        act, gated = str(c.take("dense_act_fn", act)), bool(c.take("is_gated_act", gated))
        known = known_activation(act, self.name)
        return Glu(act=known) if gated else Mlp(act=known, bias=False)

    def _head(self, c: Config, draft: Draft, shapes: Shapes, suffix: str, alone: bool) -> None:
        stored = "lm_head.weight" in shapes
        if alone or (suffix == "Model" and not stored):
            return
        tied, scaled = _tied(c.values, stored if shapes else None), _scaled(c.values)
        draft.facts["head_copy"] = tied and stored
        scale = float(draft.sizes["s0.width"] ** -0.5) if scaled else 1.0
        draft.block("head", plain("lm", LmHead(tie="embed.tokens.token" if tied else "", scale=scale)))
        draft.output("logits", "head")

    def write(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.write`; a size that one number cannot say is None (dialects say it)."""
        kind, encoder, decoder = str(arch.fact["model_type"]), arch.stage("s0"), arch.stage("s1")
        derived: dict[str, Any] = {
            "model_type": kind,
            "vocab_size": arch.size["vocab"],
            "d_model": arch.size["s0.width"],
            "d_kv": common_size(arch, "qk", "v"),
            "d_ff": common_size(arch, "hidden"),
            "num_layers": len(encoder),
            "num_heads": common_size(arch, "kv") if common_size(arch, "group") == 1 else None,
            "relative_attention_num_buckets": common(op.buckets for op in _biased(arch)),
            "relative_attention_max_distance": common(op.distance for op in _biased(arch)),
            "layer_norm_epsilon": common(n.eps for n in norms(arch)),
            **_said_ffn(arch, base),
            **_said_head(arch, base),
        }
        if decoder:
            derived["num_decoder_layers"] = len(decoder)
        if not base:
            suffix = "ForConditionalGeneration" if "head" in arch.index else "Model" if decoder else "EncoderModel"
            derived["architectures"] = [self.classes[kind] + suffix]
            derived["is_encoder_decoder"] = bool(decoder)
        return settled(base, derived, {**DEFAULTS[kind], "num_decoder_layers": derived["num_layers"]})

    def names(self, arch: Architecture) -> tuple[Entry, ...]:
        """See `Family.names`."""
        table = "embed.tokens.token.weight"
        entries = [entry(name, table) for name in str(arch.fact["tables"]).split(",")]
        for stack, (_, stage, last) in STACKS.items():
            for i, block in enumerate(arch.stage(stage)):
                entries += _block_names(f"{stack}.block.{i}.layer", block, 2 if stack == "decoder" else 1)
            if last in arch.index:
                entries += norm_names(f"{stack}.final_layer_norm", f"{last}.norm.pre", arch.block(last).layers[0].pre)
        for head in operators(arch, LmHead, ""):
            if not head.tie or arch.fact["head_copy"]:
                entries.append(entry("lm_head.weight", table if head.tie else "head.lm.proj.weight"))
        return tuple(entries)

    def carried(self, name: str) -> bool:
        """A bias that the first release stored for cross-attention and nobody uses."""
        return name == UNUSED

    def carried_axes(self, name: str, arch: Architecture) -> tuple[str, ...]:
        """See `Family.carried_axes`."""
        return ("", "d0.cross.kv")


def _feed_forward(said: str) -> tuple[str, bool]:
    """Activation and whether it gates: ``"gated-gelu"`` means the tanh approximation."""
    kind, _, act = str(said).rpartition("-")
    return ("gelu_new" if said == "gated-gelu" else act), kind == "gated"


def _scaled(config: Mapping[str, Any]) -> bool:
    """Whether the head's input is divided by the square root of the width."""
    if config.get("model_type") == "mt5":
        return False
    return bool(config.get("scale_decoder_outputs", config.get("tie_word_embeddings") is not False))


def _tied(config: Mapping[str, Any], stored: bool | None) -> bool:
    """Whether the head is the token table; ``stored``: the file holds a head (None: there is no file)."""
    said = config.get("tie_word_embeddings") is not False
    if stored is None:
        return said
    return not stored or (said and _scaled(config))


def _biased(arch: Architecture) -> list[BiasedAttention]:
    return [op for stage in ("s0", "s1") for op in operators(arch, BiasedAttention, stage)]


def _said_ffn(arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
    """The feed-forward keys, where ``base`` does not say them already."""
    ops = {layer.op for s in ("s0", "s1") for b in arch.stage(s) for layer in b.layers if layer.name == "ffn"}
    op = ops.pop() if len(ops) == 1 else None
    if not isinstance(op, Mlp | Glu):
        return {"feed_forward_proj": None}
    act, gated = _feed_forward(
        base.get("feed_forward_proj") or DEFAULTS[str(arch.fact["model_type"])]["feed_forward_proj"]
    )
    act, gated = base.get("dense_act_fn", act), base.get("is_gated_act", gated)
    if base and (canonical(act), gated) == (op.act, isinstance(op, Glu)):
        return {}
    act = {"gelu_tanh": "gelu_new"}.get(op.act, op.act)
    said = ("gated-" if isinstance(op, Glu) else "") + act
    return {"feed_forward_proj": said, "dense_act_fn": act, "is_gated_act": isinstance(op, Glu)}


def _said_head(arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
    """The head's keys, where ``base`` does not say them already; None where its scale is that of another width."""
    for head in operators(arch, LmHead, ""):
        kind = {**base, "model_type": arch.fact["model_type"]}
        tied, scaled = bool(head.tie), head.scale == float(arch.size["s0.width"] ** -0.5)
        if not scaled and head.scale != 1.0:
            return {"scale_decoder_outputs": None}
        if base and (_tied(kind, not tied or bool(arch.fact["head_copy"])), _scaled(kind)) == (tied, scaled):
            return {}
        return {"tie_word_embeddings": tied, "scale_decoder_outputs": scaled}
    return {}


def _block_names(at: str, block: Block, ffn: int) -> Iterator[Entry]:
    """A block's tensors; ``ffn`` is the number of its feed-forward layer."""
    for layer in block.layers:
        number, module = {
            "attn": (0, "SelfAttention"), "cross": (1, "EncDecAttention"), "ffn": (ffn, "DenseReluDense"),
        }[layer.name]  # fmt: skip
        file, ours = f"{at}.{number}", f"{block.name}.{layer.name}"
        yield from norm_names(f"{file}.layer_norm", f"{ours}.pre", layer.pre)
        parts = {"q": "q", "k": "k", "v": "v", "o": "o"}
        if layer.name == "ffn":
            parts = (
                {"wi_0": "gate", "wi_1": "up", "wo": "down"}
                if isinstance(layer.op, Glu)
                else {"wi": "fc1", "wo": "fc2"}
            )
        for theirs, part in parts.items():
            yield from linear(f"{file}.{module}.{theirs}", f"{ours}.{part}", bias=False)
        if isinstance(layer.op, BiasedAttention) and not layer.op.tie:
            yield entry(f"{file}.{module}.relative_attention_bias.weight", f"{ours}.bias")
