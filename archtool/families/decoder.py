"""What families of decoder-only language models share: heads, class defaults, and configurations there and back.

    embed → b0 … → final → head                 language model, tied to the token table or not
                   final → score → head         sequence classifier: scores of the last real token
                   final → score                token classifier

Heads are found by their tensors; ``architectures`` decides only where names leave it open (the original GPT-2
files hold a language model without a prefix), or where there is no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from archtool.errors import InputError
from archtool.families.base import Draft, Shapes
from archtool.families.config import Config
from archtool.families.names import Entry, entry, linear
from archtool.ir.architecture import Architecture, Block, Layer, NormSpec
from archtool.ir.operator import Operator
from archtool.ir.table import shape, stored
from archtool.operators.dense import Dense
from archtool.operators.lm_head import LmHead
from archtool.operators.pool import Pool

T = TypeVar("T")
Op = TypeVar("Op", bound=Operator)
Sized = tuple[Layer, Mapping[str, int]]
ABSENT = object()
NOTES = ("_attn_implementation_autoset", "cache_implementation", "is_llama_config", "transformers.js_config")
SUFFIXES = {"ForSequenceClassification": "class", "ForTokenClassification": "tokens", "Model": ""}


class Decoder:
    """Base of decoder families; the class attributes are a family's spelling.

    Class attributes:
        classes: model type → stem of its Hugging Face classes (``"Llama"``).
        defaults: model type → the values that its configuration class gives to absent keys.
        body / embed / norm / layers: names in the file; ``body`` is the prefix where there is a head.
        lm_suffix / token_head: ending of the language model's class; name of the token classifier.
        ignored: keys without an effect in evaluation.
        off: keys that only other classes act on, with the value that changes nothing.
    """

    name = ""
    model_types: tuple[str, ...] = ()
    classes: ClassVar[Mapping[str, str]] = {}
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    body, embed, norm, layers = "model.", "embed_tokens", "norm", "layers"
    lm_suffix, token_head = "ForCausalLM", "score"
    ignored: tuple[str, ...] = ()
    off: ClassVar[Mapping[str, Any]] = {}

    def read(self, config: Mapping[str, Any], shapes: Shapes) -> Architecture:
        """See `Family.read`."""
        kind = Config(config, self.name).expect("model_type", self.model_types, self.name)
        c = Config({**self.defaults.get(kind, {}), **config, "model_type": kind}, self.name)
        draft = Draft(self.name, ("input_ids",))
        head = self._head_kind(c, shapes)
        draft.facts.update(model_type=kind, prefix=self._prefix(c, shapes))
        draft.facts["head_copy"] = head == "lm" and self._tied(c) and "lm_head.weight" in shapes
        self._body(c, draft)
        self._heads(c, draft, shapes, head)
        c.ignore((*self.ignored, *NOTES, "model_type"))
        for key, value in self.off.items():
            c.expect(key, (value,), value)
        c.finish()
        return draft.done()

    def _class_suffix(self, c: Config) -> str:
        """``"ForCausalLM"`` of ``["LlamaForCausalLM"]``; empty where the configuration names no class."""
        named = str((c.take("architectures", None) or [""])[0])
        return named.removeprefix(self.classes[c.take("model_type")])

    def _prefix(self, c: Config, shapes: Shapes) -> str:
        bare = self._class_suffix(c) == "Model" if not shapes else not _starts(shapes, self.body)
        return "" if bare else self.body

    def _tied(self, c: Config) -> bool:
        return bool(c.take("tie_word_embeddings", False))

    def _head_kind(self, c: Config, shapes: Shapes) -> str:
        """Which head there is: ``"lm"``, ``"class"``, ``"tokens"`` or none."""
        suffix, tied = self._class_suffix(c), self._tied(c)
        if not shapes:
            return SUFFIXES.get(suffix, "lm")
        if f"{self.token_head}.bias" in shapes:
            return "tokens"
        if "score.weight" in shapes:
            return "class"
        open_end = tied and _starts(shapes, self.body) and suffix != "Model"
        return "lm" if "lm_head.weight" in shapes or suffix == self.lm_suffix or open_end else ""

    def _body(self, c: Config, draft: Draft) -> None:
        """Sizes, stem and blocks."""
        raise TypeError(f"family {self.name} describes no body")

    def _norm(self, c: Config) -> NormSpec:
        """The norm of the family."""
        raise TypeError(f"family {self.name} describes no norm")

    def _softcap(self, c: Config) -> float:
        """Soft cap on the logits; 0: none."""
        return 0.0

    def _heads(self, c: Config, draft: Draft, shapes: Shapes, kind: str) -> None:
        draft.block("final", plain("norm", None, pre=self._norm(c)))
        draft.output("hidden", "final")
        softcap = self._softcap(c)
        if kind == "lm":
            tie = "embed.tokens.token" if self._tied(c) else ""
            draft.block("head", plain("lm", LmHead(tie=tie, softcap=softcap)))
            draft.output("logits", "head")
        elif kind:
            weight = "score.weight" if kind == "class" else f"{self.token_head}.weight"
            units = shapes[weight][0] if shapes else class_count(c.values)
            draft.block("score", plain("score", Dense(bias=kind == "tokens"), units=units))
            if kind == "class":
                pad = c.take("pad_token_id", -1)
                draft.block("head", plain("last", Pool(mode="last", pad_id=pad)))
            draft.output("logits", "head" if kind == "class" else "score")

    def write(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.write`; a size that one number cannot say is None (dialects say it)."""
        derived = {**self._config(arch), **self._head_config(arch)}
        if not base:
            model_type = str(arch.fact["model_type"])
            named = [self.classes[model_type] + self._suffix(arch)]
            labels = label_keys(base, arch)
            return {"model_type": model_type, "architectures": named, "pad_token_id": None, **derived, **labels}
        return {**self._settled(arch, base, derived), **label_keys(base, arch)}

    def _settled(self, arch: Architecture, base: Mapping[str, Any], derived: Mapping[str, Any]) -> dict[str, Any]:
        """``base`` with the keys that make it say ``derived``; two rounds, since a size may imply another."""
        specs = stored(arch)
        shapes = {e.file: e.file_shape([shape(specs[p], arch) for p in e.pieces]) for e in self.names(arch)}
        merged = dict(base)
        for _ in range(2):
            try:
                read = self.read(merged, shapes)
            except InputError:  # sizes that are None, or that no longer imply others: say everything
                kept = () if merged == base else ("rope_parameters",)
                return _said(merged, {k: v for k, v in derived.items() if k not in kept})
            said = {**self._config(read), **self._head_config(read)}
            changed = {k: v for k, v in derived.items() if said.get(k, ABSENT) != v}
            merged = _said(merged, changed)
        return merged

    def _config(self, arch: Architecture) -> dict[str, Any]:
        """The configuration of the body."""
        raise TypeError(f"family {self.name} writes no configuration")

    def _head_config(self, arch: Architecture) -> dict[str, Any]:
        for head in operators(arch, LmHead, ""):
            return {"tie_word_embeddings": bool(head.tie)}
        pads = [pool.pad_id for pool in operators(arch, Pool, "")]
        return {"pad_token_id": pads[0] if pads[0] >= 0 else None} if pads else {}

    def _suffix(self, arch: Architecture) -> str:
        if "score" in arch.index:
            return "ForSequenceClassification" if "head" in arch.index else "ForTokenClassification"
        return self.lm_suffix if "head" in arch.index else "Model"

    def names(self, arch: Architecture) -> tuple[Entry, ...]:
        """See `Family.names`."""
        at = str(arch.fact["prefix"])
        entries = [*self._stem_names(at)]
        for i, block in enumerate(arch.stage("s0")):
            entries += self._block_names(f"{at}{self.layers}.{i}", block)
        entries += norm_names(f"{at}{self.norm}", "final.norm.pre", arch.block("final").layers[0].pre)
        return (*entries, *self._head_names(arch))

    def _stem_names(self, at: str) -> list[Entry]:
        return [entry(f"{at}{self.embed}.weight", "embed.tokens.token.weight")]

    def _block_names(self, at: str, block: Block) -> list[Entry]:
        entries: list[Entry] = []
        for layer in block.layers:
            entries += {"attn": self._attn_names, "ffn": self._ffn_names}[layer.name](at, block.name, layer)
        return entries

    def _attn_names(self, at: str, b: str, layer: Layer) -> list[Entry]:
        """The attention layer's tensors under block ``b``, with its norms."""
        raise TypeError(f"family {self.name} names no attention")

    def _ffn_names(self, at: str, b: str, layer: Layer) -> list[Entry]:
        """The feed-forward layer's tensors under block ``b``, with its norms."""
        raise TypeError(f"family {self.name} names no feed-forward layer")

    def _head_names(self, arch: Architecture) -> list[Entry]:
        for head in operators(arch, LmHead, ""):
            copy = [entry("lm_head.weight", f"{head.tie}.weight")] if arch.fact["head_copy"] else []
            return copy if head.tie else [entry("lm_head.weight", "head.lm.proj.weight")]
        if "score" not in arch.index:
            return []
        name = "score" if "head" in arch.index else self.token_head
        return linear(name, "score.score.proj", bias="head" not in arch.index)

    def carried(self, name: str) -> bool:
        """Nothing is kept verbatim."""
        return False

    def carried_axes(self, name: str, arch: Architecture) -> tuple[str, ...]:
        """See `Family.carried_axes`."""
        return ()


def plain(name: str, op: Operator | None, pre: NormSpec | None = None, **sizes: int) -> Sized:
    """A layer without a residual, as stems and heads have them, with the sizes of its axes."""
    return Layer(name, op, pre=pre, residual=False), sizes


def norm_names(file: str, part: str, norm: NormSpec | None) -> list[Entry]:
    """The tensors of a norm, if there is one."""
    if norm is None:
        return []
    leaves = ("weight", "bias") if norm.kind == "layer" and norm.bias else ("weight",)
    return [entry(f"{file}.{leaf}", f"{part}.{leaf}") for leaf in leaves]


def operators(arch: Architecture, kind: type[Op], stage: str = "s0") -> list[Op]:
    """All operators of a kind in a stage, in order."""
    return [layer.op for b in arch.stage(stage) for layer in b.layers if isinstance(layer.op, kind)]


def norms(arch: Architecture) -> list[NormSpec]:
    """All norms of the blocks' layers and of the last state, without those inside operators."""
    blocks = (*arch.stage("s0"), arch.block("final"))
    return [n for b in blocks for layer in b.layers for n in (layer.pre, layer.branch, layer.post) if n]


def common(values: Iterable[T]) -> T | None:
    """The one value that all have; None where they differ or there are none."""
    found = set(values)
    return found.pop() if len(found) == 1 else None


def class_count(config: Mapping[str, Any]) -> int:
    """Number of classes that a configuration says; Hugging Face's default is 2."""
    return len(config.get("id2label") or ()) or int(config.get("num_labels") or 2)


def label_keys(base: Mapping[str, Any], arch: Architecture) -> dict[str, Any]:
    """``id2label`` and ``label2id`` where the base says another number of classes."""
    classes = arch.size.get("score.score.units", 0)
    if not classes or class_count(base) == classes:
        return {}
    names = {str(i): f"LABEL_{i}" for i in range(classes)}
    return {"id2label": names, "label2id": {name: int(i) for i, name in names.items()}}


def _said(config: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with ``keys``; rotary settings replace those in the old spelling, which would win."""
    old = ("rope_scaling", "rope_theta") if "rope_parameters" in keys else ()
    return {**{k: v for k, v in config.items() if k not in old}, **keys}


def _starts(shapes: Shapes, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in shapes)
