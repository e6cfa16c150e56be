"""Item 9 of pruning: MiniLM trimmed to the words of STS-B: size, Spearman, and its tokenizer in a fresh process.

python benchmarks/prune_vocabulary.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import NoData, archtool, arguments, emit, minilm_folder, process, shared, skip

SPLITS = ("train", "dev", "test")
NAMES = (
    "spearman_dev_change", "spearman_test_change", "spearman_test", "texts_not_identical", "size_mb_before",
    "size_mb_after", "vocabulary_after", "fresh_differs", "half_coverage", "half_spearman_test",
)  # fmt: skip
FRESH = """
import csv, json, sys
sys.modules["archtool"] = None
import torch
from transformers import AutoModel, AutoTokenizer

before, after, *tables = json.loads(sys.argv[1])
texts = sorted({text for table in tables for row in csv.reader(open(table, encoding="utf-8")) for text in row[:2]})
old, new = AutoTokenizer.from_pretrained(before), AutoTokenizer.from_pretrained(after)
ids, now = old(texts, truncation=False)["input_ids"], new(texts, truncation=False)["input_ids"]
cut = sum(old.convert_ids_to_tokens(a) != new.convert_ids_to_tokens(b) for a, b in zip(ids, now))
decoded = sum(old.decode(a) != new.decode(b) for a, b in zip(ids, now))
models = [AutoModel.from_pretrained(place).eval() for place in (before, after)]
worst = 0.0
with torch.inference_mode():
    for a, b in list(zip(ids, now))[:: max(1, len(ids) // 200)]:
        one, two = (m(torch.tensor([i])).last_hidden_state for m, i in zip(models, (a, b)))
        worst = max(worst, float((one - two).abs().max()))
print(json.dumps({"texts": len(texts), "cut": cut, "decoded": decoded, "worst": worst}))
"""


def main() -> None:
    """Print every claim; without data all are skipped."""
    arguments(__doc__).parse_args()
    try:
        model, tables = minilm_folder(), [shared("stsb", f"stsb-en-{split}.csv") for split in SPLITS]
    except NoData as why:
        skip((f"prune.9.{name}" for name in NAMES), why)
        return
    with tempfile.TemporaryDirectory() as scratch:
        measure(model, tables, Path(scratch))


def measure(model: Path, tables: list[Path], scratch: Path) -> None:
    """Trim to the words of all splits; then to half as many tokens, of the words of the training split."""
    corpus = ",".join(map(str, tables))
    found = trimmed(model, tables[1], scratch / "all", "--corpus", corpus, "--min-count", "1")
    small, costs = scratch / "all" / "model", found["records"]["parent"]["costs"]
    for split, table in zip(SPLITS[1:], tables[1:], strict=True):
        before, after = spearman(model, table), spearman(small, table)
        emit(f"prune.9.spearman_{split}_change", abs(after - before), note=f"{before:.6f} before")
    emit("prune.9.spearman_test", after)
    emit("prune.9.size_mb_before", costs["size_bytes"] / 1e6)
    emit("prune.9.size_mb_after", found["size_bytes"] / 1e6, note=f"{found['parameters']:,.0f} parameters")
    emit("prune.9.vocabulary_after", found["vocabulary"], note=f"of {found['records']['parent']['sizes']['vocab']}")
    words = [sys.executable, "-I", "-c", FRESH, json.dumps([str(p) for p in (model, small, *tables)])]
    fresh = process(words).json()
    emit("prune.9.texts_not_identical", fresh["cut"] + fresh["decoded"], note=f"of {fresh['texts']} sentences")
    emit("prune.9.fresh_differs", fresh["worst"], note="hidden states, transformers without archtool")
    half = str(round(found["vocabulary"] / 2))
    found = trimmed(model, tables[1], scratch / "half", "--corpus", str(tables[0]), "--keep", half)
    emit("prune.9.half_coverage", found["token_coverage"], note=f"{half} tokens, training split only")
    emit("prune.9.half_spearman_test", spearman(scratch / "half" / "model", tables[2]))


def trimmed(model: Path, table: Path, out: Path, *words: str) -> Any:
    """The command's result."""
    return archtool("trim-vocabulary", model, *words, "--out", out, "--json").json()


def spearman(model: Path, table: Path) -> float:
    """Of the cosines with the gold scores."""
    return float(archtool("eval", model, "--task", "similarity", "--data", table, "--json").json()["spearman"])


if __name__ == "__main__":
    main()
