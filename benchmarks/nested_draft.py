"""Number 8 of nested models: submodels that agree with the whole, as a draft of its text and as a query encoder.

The draft is the ffn x 1/4 submodel of the GPT-2 that `nested_quality.py` trained and left in ``runs/nested/``; beside
it the twin of the same size that was trained alone drafts for the same target. The query encoder is all-MiniLM-L6-v2
cut to 60 % of its block parameters by order alone, as `nested_minilm.py` makes it; it asks the index that the whole
model made of STS-B dev, or one of its own.

    python benchmarks/nested_draft.py            3 seeds
    python benchmarks/nested_draft.py --quick    the first seed alone
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import NoData, arguments, emit, minilm_folder, shared, skip
from nested_quality import LEVELS, RUNS, SEEDS, SHAKESPEARE, examples

LEVEL = 1
DRAFTED = ("acceptance_gain", "acceptance_rate", "greedy_tokens_per_call")
ASKED = ("retrieval_gain", "retrieval_recall_at_1")


def main() -> None:
    """Print every claim."""
    seeds = SEEDS[:1] if arguments(__doc__).parse_args().quick else SEEDS
    for names, measure in ((DRAFTED, drafts), (ASKED, retrieval)):
        try:
            measure(seeds)
        except NoData as why:
            skip((f"nested.8.{name}" for name in names), why)


def drafts(seeds: Sequence[int]) -> None:
    """The extracted draft and the twin, over seeds."""
    found = [drafted(RUNS / f"{SHAKESPEARE.name}-seed{seed}") for seed in seeds]
    rates = {who: [one[who]["acceptance_rate"] for one in found] for who in ("extracted", "twin")}
    gains = [ours - theirs for ours, theirs in zip(*rates.values(), strict=True)]
    means = {who: statistics.mean(values) for who, values in rates.items()}
    note = f"ffn x {LEVELS[LEVEL]:g}: {means['extracted']:.4f} extracted, {means['twin']:.4f} trained alone"
    emit("nested.8.acceptance_gain", statistics.mean(gains), note=note, **over(gains))
    emit("nested.8.acceptance_rate", means["extracted"], **over(rates["extracted"]))
    counted = {who: [one[who]["greedy_tokens_per_call"] for one in found] for who in rates}
    note = f"4 drafted tokens; the twin's {statistics.mean(counted['twin']):.3f}"
    emit("nested.8.greedy_tokens_per_call", statistics.mean(counted["extracted"]), note=note,
         **over(counted["extracted"]))  # fmt: skip


def drafted(folder: Path) -> dict[str, Any]:
    """What the extracted draft and the twin are worth for one nested model, on the test text."""
    from archtool.evaluate import evaluate
    from archtool.ir.nesting import uniform
    from archtool.model.apply import apply
    from archtool.model.load import load

    places = folder / "nested" / "model", folder / f"twin-{LEVELS[LEVEL]:g}" / "model"
    if not all(place.is_dir() for place in places):
        raise NoData(f"no model: run benchmarks/nested_quality.py first ({folder.name} is missing or unfinished)")
    nested, twin = (load(place) for place in places)
    assert nested.nesting is not None
    extracted = apply(nested, uniform(nested.nesting, LEVEL).edit(nested.architecture, "uniform"))
    data, target = examples(SHAKESPEARE, "test"), nested.module()
    return {
        name: evaluate(target, "speculation", data, parent=draft.module(), batch_size=256)
        for name, draft in (("extracted", extracted), ("twin", twin))
    }


def retrieval(seeds: Sequence[int]) -> None:
    """The 60 % model's questions to the whole model's index and to its own, over calibration seeds."""
    from nested_minilm import nested_by_order, pairs, unlabeled

    from archtool.evaluate import TaskOptions, embeddings, evaluate
    from archtool.model.load import load
    from archtool.run.inputs import pooling_of

    folder, judge = minilm_folder(), shared("stsb", "stsb-en-dev.csv")
    whole, data = load(folder), pairs(judge, folder)
    pooling = pooling_of(whole)
    index = TaskOptions(index_ND=embeddings(whole.module(), data, pooling=pooling))

    def recall(model: Any, options: TaskOptions | None) -> float:
        return float(evaluate(model.module(), "retrieval", data, pooling=pooling, options=options)["recall@1"])

    with tempfile.TemporaryDirectory() as scratch:
        sentences = pairs(unlabeled(shared("stsb", "stsb-en-train.csv"), Path(scratch) / "sentences.csv"), folder)
    small = [nested_by_order(whole, sentences, pooling, seed)[0] for seed in seeds]
    crossed, own = [recall(model, index) for model in small], [recall(model, None) for model in small]
    gains = [ours - alone for ours, alone in zip(crossed, own, strict=True)]
    note = f"recall@1: {statistics.mean(crossed):.4f} in the whole's index, {statistics.mean(own):.4f} in its own"
    emit("nested.8.retrieval_gain", statistics.mean(gains), note=note, **over(gains))
    note = f"the whole model's own {recall(whole, None):.4f}"
    emit("nested.8.retrieval_recall_at_1", statistics.mean(crossed), note=note, **over(crossed))


def over(values: Sequence[float]) -> dict[str, float]:
    """The spread and number of seeds."""
    return {"spread": max(values) - min(values), "seeds": len(values)}


if __name__ == "__main__":
    main()
