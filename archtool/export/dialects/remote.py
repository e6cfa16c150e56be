"""Remote: anything; transformers runs it from one readable file with ``trust_remote_code=True``."""

from __future__ import annotations

from typing import Any

from archtool.export.base import Form, base_config
from archtool.export.remote.graph import cached, graph, memory, stepping
from archtool.export.remote.modeling import FILE_NAME, modeling_file
from archtool.ir.architecture import Architecture
from archtool.model.checkpoint import Checkpoint

KEPT = (
    "id2label", "label2id", "problem_type", "bos_token_id", "eos_token_id", "pad_token_id", "cls_token_id",
    "sep_token_id", "unk_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id", "dtype",
    "torch_dtype", "max_position_embeddings", "n_positions", "image_size", "patch_size", "num_channels",
    "tokenizer_class", "_name_or_path",
)  # fmt: skip
MODULE = FILE_NAME.removesuffix(".py")


def form(checkpoint: Checkpoint) -> Form:
    """The model with its graph in config.json and the code that runs it."""
    arch, base = checkpoint.architecture, base_config(checkpoint)
    code = modeling_file(arch, checkpoint.plan)
    cls, autos = classes(arch)
    staged = [place for place in arch.places if place.block.stage]
    sizes = {
        "vocab_size": arch.size.get("vocab"),
        "hidden_size": staged[-1].leaving.size(arch.size) if staged else None,
        "num_hidden_layers": sum(map(len, arch.stages.values())),
    }
    if cls == "ArchtoolForSeq2SeqLM":
        steps = stepping(arch)
        deepest = max(len(cached(arch)), sum(bool(place.layer.reads) for place in steps))
        sizes |= {"num_hidden_layers": deepest, "is_encoder_decoder": True}
    config: dict[str, Any] = {
        "model_type": "archtool",
        "architectures": [cls],
        "auto_map": {"AutoConfig": f"{MODULE}.ArchtoolConfig", **{auto: f"{MODULE}.{cls}" for auto in autos}},
        **{key: base[key] for key in KEPT if key in base},
        **{key: value for key, value in sizes.items() if value is not None},
        "tie_word_embeddings": False,
        "archtool": {"format": 1, "config": dict(base), "graph": graph(checkpoint)},
    }
    return Form(checkpoint, config, native=True, code=((FILE_NAME, code),))


def classes(arch: Architecture) -> tuple[str, tuple[str, ...]]:
    """The class in the file, and the transformers auto classes that lead to it."""
    heads = {name: arch.block(block).layers[-1].op for name, block in arch.outputs}
    if "logits" not in heads:
        return "ArchtoolModel", ("AutoModel",)
    if heads["logits"] is not None and heads["logits"].kind == "head.lm":
        if memory(arch):
            return "ArchtoolForSeq2SeqLM", ("AutoModel", "AutoModelForSeq2SeqLM")
        causal = any(getattr(place.layer.op, "causal", False) for place in arch.places)
        if causal:
            return "ArchtoolForCausalLM", ("AutoModel", "AutoModelForCausalLM")
        return "ArchtoolModel", ("AutoModel", "AutoModelForMaskedLM")
    task = "ImageClassification" if "pixel_values" in arch.inputs else "SequenceClassification"
    if heads["logits"] is not None and heads["logits"].kind == "head.image":
        task = "SemanticSegmentation"
    return "ArchtoolModel", ("AutoModel", f"AutoModelFor{task}")
