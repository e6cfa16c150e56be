"""BERT-shaped text encoders: post-norm blocks over word, position and segment vectors (Devlin et al. 2019).

One reader for BERT, RoBERTa and DistilBERT, which differ in names: a subclass gives the configuration's keys,
the file's names and the heads that its classes have. Heads are found by their tensors; ``architectures``
decides only where names are ambiguous, or where there is no file.

    final → pooler → head.score      BERT's classifier; RoBERTa and DistilBERT have ``pre`` for ``pooler``
    final → transform → head.lm      masked language model, tied to the token table or not
    final → head.score               token classifier
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from archtool.families.base import Draft, Shapes, known_activation, uniform
from archtool.families.config import Config
from archtool.families.encoder import (
    activation_name,
    add_blocks,
    add_final,
    class_count,
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
from archtool.operators.dense import Dense
from archtool.operators.lm_head import LmHead
from archtool.operators.mlp import Mlp
from archtool.operators.pool import Pool
from archtool.operators.token_stem import TokenStem

TABLES = {"token": "word_embeddings", "position": "position_embeddings", "segment": "token_type_embeddings"}


class TextEncoder:
    """Reads and writes one BERT-shaped family; the class attributes are its spelling.

    Class attributes:
        classes: model type → stem of its Hugging Face classes (``"Bert"``).
        prefix: what stands before the body's names in files that have a head.
        keys: role (``width``, ``depth``, ``heads``, ``hidden``, ``act``) → configuration key.
        defaults: configuration key → the class' default.
        layers: where the blocks are, below the prefix.
        block_linears / block_norms: canonical part → name below a block.
        head_files: head part (``"pooler.dense"``) → file name, with ``{at}`` for the prefix.
        transform_norm: file name of the norm before the vocabulary.
        variants: suffix of a Hugging Face class → its head parts; ``"tokens"`` marks token classifiers.
        pre_act / transform_act: activations of the dense layers before a classifier and before the
            vocabulary (``""``: the blocks' own).
        lm_weights / lm_biases: names under which the vocabulary head is stored, the first ones preferred.
        ignored: keys without an effect in evaluation.
    """

    name = ""
    model_types: tuple[str, ...] = ()
    classes: ClassVar[Mapping[str, str]] = {}
    prefix = ""
    keys: ClassVar[Mapping[str, str]] = {}
    defaults: ClassVar[Mapping[str, Any]] = {}
    layers = ""
    block_linears: ClassVar[Mapping[str, str]] = {}
    block_norms: ClassVar[Mapping[str, str]] = {}
    head_files: ClassVar[Mapping[str, str]] = {}
    variants: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    transform_norm = ""
    pre_act = "tanh"
    transform_act = ""
    lm_weights: tuple[str, ...] = ()
    lm_biases: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    def read(self, config: Mapping[str, Any], shapes: Shapes) -> Architecture:
        """See `Family.read`."""
        c = Config(config, self.name)
        parts = self._parts(c, shapes)
        draft = Draft(self.name, ("input_ids",))
        self._facts(c, draft, shapes, parts)
        self._body(c, draft)
        self._heads(c, draft, shapes, parts)
        c.expect("position_embedding_type", ("absolute",), "absolute")
        c.ignore((*self.ignored, "tie_word_embeddings"))
        c.finish()
        return draft.done()

    def _parts(self, c: Config, shapes: Shapes) -> tuple[str, ...]:
        """Which head parts there are."""
        suffix = self._suffix(c)
        if not shapes:
            return self.variants.get(suffix, self.variants["Model"])
        at = self._at(c, shapes)
        found = [part for part in self.head_files if f"{self._file(part, at, ())}.weight" in shapes]
        if "pre.dense" not in found and "head.score" not in found and f"{self._token_file()}.weight" in shapes:
            found.append("head.score")
        pooled = "pre.dense" in found or ("pooler.dense" in found and suffix != "ForTokenClassification")
        return (*found, "tokens") if "head.score" in found and not pooled else tuple(found)

    def _suffix(self, c: Config) -> str:
        named = (c.take("architectures", None) or ["Model"])[0]
        return str(named).removeprefix(self.classes[c.take("model_type", self.name)])

    def _at(self, c: Config, shapes: Shapes) -> str:
        """The prefix of the body's names in this file."""
        if shapes:
            return "" if "embeddings.word_embeddings.weight" in shapes else self.prefix
        return "" if self._suffix(c) == "Model" else self.prefix

    def _file(self, part: str, at: str, parts: tuple[str, ...]) -> str:
        """File name of a head part."""
        if part == "head.score" and "tokens" in parts:
            return self._token_file()
        return self.head_files[part].format(at=at)

    def _token_file(self) -> str:
        return "classifier"

    def _facts(self, c: Config, draft: Draft, shapes: Shapes, parts: tuple[str, ...]) -> None:
        draft.facts.update(model_type=c.take("model_type", self.name), prefix=self._at(c, shapes))
        draft.facts["max_positions"] = self._number(c, "max_position_embeddings") - self._first_position(c)
        draft.facts["old_norms"] = any(name.endswith("LayerNorm.gamma") for name in shapes)
        draft.facts["tokens"] = "tokens" in parts
        if "transform.dense" in parts:
            tied = bool(c.take("tie_word_embeddings", True))
            weights = [name for name in self.lm_weights if name in shapes]
            biases = [name for name in self.lm_biases if name in shapes] or list(self.lm_biases[:1])
            draft.facts["decoder_weights"] = ",".join(weights if tied else weights or self.lm_weights[:1])
            draft.facts["decoder_biases"] = ",".join(biases if tied else biases[-1:])

    def _first_position(self, c: Config) -> int:
        """Positions at the start of the table that no real token takes."""
        return 0

    def _number(self, c: Config, key: str) -> int:
        return c.number(key, self.defaults[key])

    def _eps(self, c: Config) -> float:
        return float(c.take("layer_norm_eps", self.defaults["layer_norm_eps"]))

    def _stem(self, c: Config) -> TokenStem:
        return TokenStem(positions="positions", types="embed.tokens.types")

    def _body(self, c: Config, draft: Draft) -> None:
        k, norm, stem = self.keys, NormSpec("layer", self._eps(c)), self._stem(c)
        width = self._number(c, k["width"])
        draft.sizes.update(vocab=self._number(c, "vocab_size"), positions=self._number(c, "max_position_embeddings"))
        draft.sizes["s0.width"] = width
        types = {"types": self._number(c, "type_vocab_size")} if stem.types else {}
        draft.block("embed", plain("tokens", stem, norm, **types))
        attention = self_attention(width, self._number(c, k["heads"]))
        ffn = Mlp(act=self._act(c)), self._number(c, k["hidden"])
        add_blocks(draft, self._number(c, k["depth"]), attention, ffn, norm, post=True)
        add_final(draft)

    def _act(self, c: Config) -> str:
        return known_activation(c.take(self.keys["act"], self.defaults[self.keys["act"]]), self.name)

    def _heads(self, c: Config, draft: Draft, shapes: Shapes, parts: tuple[str, ...]) -> None:
        first, width = plain("first", Pool()), draft.sizes["s0.width"]
        if "pooler.dense" in parts:
            draft.block("pooler", first, plain("dense", Dense(act="tanh"), units=width), inputs=("final",))
            draft.output("pooled", "pooler")
        if "pre.dense" in parts:
            draft.block("pre", first, plain("dense", Dense(act=self.pre_act), units=width), inputs=("final",))
        if "nsp.score" in parts:
            draft.block("nsp", plain("score", Dense(), units=2), inputs=("pooler",))
            draft.output("next_sentence", "nsp")
        if "head.score" in parts:
            source = "final" if "tokens" in parts else "pre" if "pre.dense" in parts else "pooler"
            classes = class_count(c, shapes, f"{self._file('head.score', '', parts)}.weight")
            draft.block("head", plain("score", Dense(), units=classes), inputs=(source,))
            draft.output("logits", "head")
        elif "transform.dense" in parts:
            self._lm(c, draft)

    def _lm(self, c: Config, draft: Draft) -> None:
        dense = Dense(act=self.transform_act or self._act(c), into="s0.width")
        draft.block("transform", plain("dense", dense, NormSpec("layer", self._eps(c))), inputs=("final",))
        tied = bool(c.take("tie_word_embeddings", True))
        draft.block("head", plain("lm", LmHead(tie="embed.tokens.token" if tied else "", bias=True)))
        draft.output("logits", "head")

    def write(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.write`; a size that one number cannot say is None (dialects say it)."""
        k = self.keys
        derived: dict[str, Any] = {
            "model_type": arch.fact["model_type"],
            "vocab_size": arch.size["vocab"],
            "max_position_embeddings": arch.size["positions"],
            k["width"]: stock_width(arch, "pooler.dense", "pre.dense"),
            k["depth"]: len(arch.stage("s0")),
            k["heads"]: stock_heads(arch),
            k["hidden"]: uniform(arch, "ffn.hidden"),
            k["act"]: activation_name(arch, base.get(k["act"])),
            **self._own_keys(arch),
        }
        if "transform" in arch.index:
            derived["tie_word_embeddings"] = bool(_lm_head(arch).tie)
        if not base:
            derived["architectures"] = [self.classes[str(arch.fact["model_type"])] + self._variant(arch)]
        if "head" in arch.index and "transform" not in arch.index:
            derived.update(label_keys(base, arch.size["head.score.units"]))
        return settled(base, derived, self.defaults)

    def _own_keys(self, arch: Architecture) -> dict[str, Any]:
        """Further keys: norm epsilon and segment types, where the family has them."""
        return {"layer_norm_eps": layer_eps(arch), "type_vocab_size": arch.size["embed.tokens.types"]}

    def _variant(self, arch: Architecture) -> str:
        """Suffix of the class that has this architecture's heads."""
        parts = self._head_parts(arch)
        exact = [s for s, wanted in self.variants.items() if set(wanted) == parts]
        if exact:
            return exact[0]
        head = next((p for p in ("tokens", "head.score", "transform.dense") if p in parts), "")
        return next((s for s, wanted in self.variants.items() if head in wanted), "Model")

    def _head_parts(self, arch: Architecture) -> set[str]:
        found = {f"{b.name}.{layer.name}" for b in arch.blocks for layer in b.layers} & set(self.head_files)
        return found | ({"tokens"} if arch.fact["tokens"] else set())

    def names(self, arch: Architecture) -> tuple[Entry, ...]:
        """See `Family.names`."""
        at, leaves = str(arch.fact["prefix"]), _leaves(arch)
        stem = arch.block("embed").layers[0].op
        assert isinstance(stem, TokenStem)
        tables = [t for t, axis in (("token", True), ("position", stem.positions), ("segment", stem.types)) if axis]
        entries = [entry(f"{at}embeddings.{TABLES[t]}.weight", f"embed.tokens.{t}.weight") for t in tables]
        entries += norm_names(f"{at}embeddings.LayerNorm", "embed.tokens.post", leaves)
        for i, block in enumerate(arch.stage("s0")):
            entries += self._block_names(f"{at}{self.layers}.{i}", block, leaves)
        return (*entries, *self._head_names(arch, at, leaves))

    def _block_names(self, at: str, block: Block, leaves: tuple[str, str]) -> list[Entry]:
        entries: list[Entry] = []
        there = {layer.name for layer in block.layers}
        working = {layer.name for layer in block.layers if layer.op}
        for part, file in self.block_linears.items():
            if part.split(".")[0] in working:
                entries += linear(f"{at}.{file}", f"{block.name}.{part}", bias=True)
        for part, file in self.block_norms.items():
            if part.split(".")[0] in there:
                entries += norm_names(f"{at}.{file}", f"{block.name}.{part}", leaves)
        return entries

    def _head_names(self, arch: Architecture, at: str, leaves: tuple[str, str]) -> list[Entry]:
        parts = tuple(self._head_parts(arch))
        entries: list[Entry] = []
        for part in sorted(set(parts) - {"tokens"}):
            entries += linear(self._file(part, at, parts), f"{part}.proj", bias=True)
        if "transform" not in arch.index:
            return entries
        entries += norm_names(self.transform_norm, "transform.dense.post", leaves)
        weight = f"{_lm_head(arch).tie or 'head.lm.proj'}.weight"
        held = ((weight, "decoder_weights"), ("head.lm.proj.bias", "decoder_biases"))
        copies = [(file, piece) for piece, fact in held for file in str(arch.fact[fact]).split(",")]
        return [*entries, *(entry(file, piece) for file, piece in copies if file)]

    def carried(self, name: str) -> bool:
        """Position numbers of old files, and the vocabulary bias that an untied head leaves unused."""
        return name.endswith("embeddings.position_ids") or name in self.lm_biases

    def carried_axes(self, name: str, arch: Architecture) -> tuple[str, ...]:
        """See `Family.carried_axes`."""
        return ("vocab",) if name in self.lm_biases else ("", "positions")


def _leaves(arch: Architecture) -> tuple[str, str]:
    return ("gamma", "beta") if arch.fact["old_norms"] else ("weight", "bias")


def _lm_head(arch: Architecture) -> LmHead:
    op = arch.block("head").layers[0].op
    assert isinstance(op, LmHead)
    return op
