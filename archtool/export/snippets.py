"""What a model card says about a dialect: how to load it, and what it cannot do."""

from __future__ import annotations

from archtool.export.dialects.remote import classes
from archtool.ir.architecture import Architecture

LIMITS = {
    "stock": (),
    "sibling": ("The class is a sibling of the original's; `model_type` in config.json is the sibling's.",),
    "remote": (
        "Needs `trust_remote_code=True`; read modeling_archtool.py first, it is one file.",
        "Servers that bring their own kernels (vLLM, llama.cpp) do not read it.",
        "`forward` takes no `labels`, returns no attention maps and no inner hidden states.",
        "Models with learned positions must be padded on the right.",
        "Tensors stored as integers are decoded at each use: smaller files and memory, not more speed.",
    ),
    "padded": ("Pruned entries are stored as zeros: no smaller and no faster than the original.",),
    "native": ("Only archtool reads it.",),
    "onnx": ("Only evaluation: batch and length are dynamic, weights are fixed, there is no key-value cache.",),
}

HEADS = {
    "AutoModelForCausalLM": "logits", "AutoModelForMaskedLM": "logits", "AutoModel": "last_hidden_state",
    "AutoModelForSequenceClassification": "logits", "AutoModelForImageClassification": "logits",
    "AutoModelForSeq2SeqLM": "logits",
    "AutoModelForSemanticSegmentation": "logits",
}  # fmt: skip

NAMED_CLASS = """\
import transformers

config = transformers.AutoConfig.from_pretrained("{folder}")
model = getattr(transformers, config.architectures[0]).from_pretrained("{folder}")
output = model(**inputs)[0]
"""
"""For classes that no auto class leads to (forecasters)."""


def load_snippet(dialect: str, arch: Architecture, folder: str = "model") -> str:
    """Python that loads an exported folder and runs it once."""
    if dialect == "native":
        return f'import archtool\n\nmodel = archtool.load("{folder}").module()\n'
    if dialect == "onnx":
        return f'import onnxruntime\n\nsession = onnxruntime.InferenceSession("{folder}/model.onnx")\n'
    if dialect != "remote" and "past_values" in arch.inputs:
        return NAMED_CLASS.format(folder=folder)
    auto = classes(arch)[1][-1]
    answer = "forecast" if "forecast" in dict(arch.outputs) else HEADS[auto]
    trust = ", trust_remote_code=True" if dialect == "remote" else ""
    lines = [f"from transformers import {auto}", "", f'model = {auto}.from_pretrained("{folder}"{trust})']
    return "\n".join((*lines, f"output = model(**inputs).{answer}")) + "\n"


def limits(dialect: str) -> tuple[str, ...]:
    """Sentences about what a dialect's files cannot do."""
    return LIMITS[dialect]
