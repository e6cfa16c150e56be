"""Item 3: real checkpoints give their published numbers: MiniLM on STS-B, stories260k, MiniLM in ONNX Runtime.

python benchmarks/spine_real.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import ROOT, NoData, archtool, arguments, emit, minilm_folder, shared, skip

if TYPE_CHECKING:
    from torch import nn

NAMES = ROOT / "recipes" / "names" / "stories260k.yaml"
PUBLISHED = """\
Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a \
big, red ball. She wanted to play with it, but it was too high.
Lily's mom said, "Lily, let's go to the park." Lily was sad and didn't know what to do. She said, "I want to play \
with your ball, but I can't find it."
Lily was sad and didn't know what to do. She said, "I'm sorry, Lily. I didn't know what to do."
Lily didn't want to help her mom, so she said, "I'm sorry, mom. I didn't know what to do." Her mom said, "Don't \
worry, Lily. We can help you."""
"""The greedy sample in llama2.c's doc/stories260K.md."""
PARTS = {
    "similarity": ("minilm_sts_test_spearman", "minilm_sts_dev_spearman"),
    "stories": ("stories260k_loss", "stories260k_greedy_differs"),
    "onnx": ("minilm_onnx_max_abs_diff", "minilm_onnx_sts_test_spearman"),
}


def main() -> None:
    """Print every claim; those without data are skipped."""
    arguments(__doc__).parse_args()
    for part, run in (("similarity", similarity), ("stories", stories), ("onnx", onnx)):
        try:
            run()
        except NoData as why:
            skip((f"spine.3.{name}" for name in PARTS[part]), why)


def similarity() -> None:
    """MiniLM on both splits, by the command line."""
    for split in ("test", "dev"):
        data = shared("stsb", f"stsb-en-{split}.csv")
        done = archtool("eval", minilm_folder(), "--task", "similarity", "--data", data, "--json")
        emit(f"spine.3.minilm_sts_{split}_spearman", done.json()["spearman"])


def stories() -> None:
    """The loss by the command line, and the greedy text."""
    weights = shared("stories260k", "stories260k.safetensors")
    text = shared("tinystories_sample", "tinystories_sample.txt")
    settings = ("data.preprocess.length=512", "data.preprocess.separator='<|endoftext|>'")
    words: list[str | Path] = ["eval", weights, "--names", NAMES, "--task", "lm", "--data", text, "--json"]
    found = archtool(*words, *(word for pair in settings for word in ("--set", pair))).json()
    emit("spine.3.stories260k_loss", found["loss"], note=f"{found['tokens']:g} tokens")
    told = greedy(weights)
    same = next((i for i, (a, b) in enumerate(zip(told, PUBLISHED, strict=False)) if a != b), len(PUBLISHED))
    note = f"{same} of {len(PUBLISHED)} characters"
    emit("spine.3.stories260k_greedy_differs", int(not told.startswith(PUBLISHED)), note=note)


def greedy(weights: Path) -> str:
    """256 greedy tokens from the beginning of a text."""
    import torch

    import archtool as product
    from archtool.data.scored_bpe import BOS, read_scored_bpe
    from archtool.model.generate import generate

    checkpoint = product.load(str(weights), names=str(NAMES))
    ids = generate(checkpoint.module(), torch.tensor([[BOS]]), 256)
    return read_scored_bpe(Path(str(checkpoint.source.tokenizer))).decode(ids[0].tolist())


def onnx() -> None:
    """The exported graph on every batch of the test split, beside torch."""
    from archtool.data import DataSpec, load_data
    from archtool.evaluate import evaluate
    from archtool.model.load import load
    from archtool.run.inputs import pooling_of

    folder, table = minilm_folder(), shared("stsb", "stsb-en-test.csv")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        archtool("export", folder, "--format", "onnx", "--out", out, "--json").json()
        checkpoint = load(folder)
        pair = beside(checkpoint.module(), out / "model" / "model.onnx")
        data = load_data(DataSpec(str(table), task="similarity"), folder)
        found = evaluate(pair, "similarity", data, pooling=pooling_of(checkpoint))
    note = f"hidden states of {pair.tokens} tokens, largest {pair.largest:.3g}"
    emit("spine.3.minilm_onnx_max_abs_diff", pair.worst, note=note)
    emit("spine.3.minilm_onnx_sts_test_spearman", found["spearman"])


def beside(module: nn.Module, graph: Path) -> Any:
    """A module that answers with ONNX Runtime's hidden states and keeps the largest difference from torch's."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]

    class Beside(torch.nn.Module):
        worst, largest, tokens = 0.0, 0.0, 0

        def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
            feed = {i.name: inputs[i.name].numpy() for i in session.get_inputs()}
            got = {n: torch.from_numpy(v) for n, v in zip(names, session.run(None, feed), strict=True)}
            expected, real = module(**inputs)["hidden"], inputs["attention_mask"].bool()
            self.worst = max(self.worst, float((got["hidden"] - expected)[real].abs().max()))
            self.largest = max(self.largest, float(expected[real].abs().max()))
            self.tokens += int(real.sum())
            return got

    return Beside()


if __name__ == "__main__":
    main()
