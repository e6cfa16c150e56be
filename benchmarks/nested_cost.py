"""What nested training costs: a step against its granularities alone, views against a plain module, switching.

Steps are those of a ViT (batch 32, 65 tokens) and a Llama (batch 16, 128 tokens) of 6 blocks x 192, switches those of
12 blocks. One thread, CPU seconds of this process, alternating call by call; values are medians over the rounds of the
ratio within a round, spreads the distance between its quartiles. A plain module is the extracted checkpoint of the same
submodel; both sides run forward and backward on the same batch, gradients set to None before.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from common import arguments, emit

KINDS = ("ffn", "heads", "width")
FRACTIONS = (0.25, 0.5, 0.75, 1.0)
ROUNDS, WARM, SWITCHES = 11, 1, 200
STEP_BLOCKS, SWITCH_BLOCKS = 6, 12


def main() -> None:
    """Every model that `cases` knows."""
    asked = arguments(__doc__).parse_args()
    import torch

    torch.set_num_threads(1)
    rounds = 4 if asked.quick else ROUNDS
    for name, checkpoint, batch in cases(STEP_BLOCKS):
        for kinds in (("ffn",), KINDS):
            step(f"nested.7.{name}.{'-'.join(kinds)}", checkpoint, batch, kinds, rounds)
    for name, checkpoint, _ in cases(SWITCH_BLOCKS):
        switching(f"nested.7.{name}.switch_ms", checkpoint)


def cases(blocks: int) -> Iterator[tuple[str, Any, Any]]:
    """(name, checkpoint, batch): a ViT and a Llama."""
    import torch

    from archtool.data.batches import Batch
    from archtool.model.preset import built

    rng = torch.Generator().manual_seed(0)
    sizes = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": blocks, "num_attention_heads": 8}
    vit = {"image_size": 32, "patch_size": 4, "num_channels": 3, "num_labels": 10, **sizes}
    images, labels = torch.randn(32, 3, 32, 32, generator=rng), torch.randint(10, (32,), generator=rng)
    batch = Batch({"pixel_values": images}, {"labels": labels}, torch.arange(32))
    yield "vit", built("vit", {**vit, "architectures": ["ViTForImageClassification"]}, 0), batch
    llama = {"vocab_size": 256, "num_key_value_heads": 4, "max_position_embeddings": 128, **sizes}
    ids = torch.randint(256, (16, 129), generator=rng)
    batch = Batch({"input_ids": ids[:, :-1]}, {"next_ids": ids[:, 1:]}, torch.arange(16))
    yield "llama", built("llama", llama, 0), batch


def step(claim: str, checkpoint: Any, batch: Any, kinds: tuple[str, ...], rounds: int) -> None:
    """Print a nested step over the sum of its granularities, and the dearest granularity on views over a plain one."""
    import torch

    from archtool.ir.nesting import uniform
    from archtool.model.apply import apply
    from archtool.model.views import Family
    from archtool.train.objectives.base import Term, task_loss
    from archtool.train.objectives.nested import Nested
    from archtool.train.sampling import Sampling
    from archtool.transforms.nesting import nesting_of

    nesting = nesting_of(checkpoint.architecture, kinds, FRACTIONS)
    model, rng = checkpoint.module().train(), torch.Generator()
    members = [uniform(nesting, level) for level in reversed(range(nesting.granularities))]
    plain = [apply(checkpoint, m.edit(checkpoint.architecture, "extract")).module().train() for m in members]
    loss = task_loss("lm" if "next_ids" in batch.targets else "image-classification")
    family = Family(model, nesting)
    views = [family.member(member) for member in members]
    nested = Nested(family, Sampling("all"), [Term("task", 1.0, loss)])

    def whole() -> None:
        model.zero_grad()
        for one in nested.passes(model, batch, rng):
            one.losses["loss"].backward()

    def alone(module: Any) -> None:
        module.zero_grad()
        loss(module(**batch.inputs), batch).backward()

    def viewed(member: Any) -> None:
        model.zero_grad()
        with member.running():
            loss(model(**batch.inputs), batch).backward()

    calls: list[Callable[[], None]] = [whole]
    for module, member in zip(plain, views, strict=True):
        calls += [lambda module=module: alone(module), lambda member=member: viewed(member)]
    rows = [[clocked(call) for call in calls] for _ in range(WARM + rounds)][WARM:]
    report(claim, rows)


def report(claim: str, rows: list[list[float]]) -> None:
    """Print both ratios of a table with a row per round: the nested step, then (plain, views) per granularity."""
    seconds = [statistics.median(column) for column in zip(*rows, strict=True)]
    plain = ", ".join(f"{1000 * s:.0f}" for s in seconds[1::2])
    note = f"{1000 * seconds[0]:.0f} ms; plain modules, largest first: {plain} ms"
    middle, spread = summary([row[0] / sum(row[1::2]) for row in rows])
    emit(f"{claim}.step_over_sum", middle, spread=spread, note=note)
    levels = [summary([row[i + 1] / row[i] for row in rows]) for i in range(1, len(rows[0]), 2)]
    middle, spread = max(levels)
    note = "the dearest of " + ", ".join(f"{ratio:.3f}" for ratio, _ in levels)
    emit(f"{claim}.views_over_plain", middle, spread=spread, note=note)


def summary(values: list[float]) -> tuple[float, float]:
    """Median, and the distance between the quartiles."""
    quarter = statistics.quantiles(values, n=4)
    return statistics.median(values), quarter[2] - quarter[0]


def switching(claim: str, checkpoint: Any) -> None:
    """Print what it takes from one compiled submodel to another, and to compile one that was never drawn before."""
    import torch

    from archtool.model.views import Family
    from archtool.train.sampling import axis_groups, mix
    from archtool.transforms.nesting import nesting_of

    nesting = nesting_of(checkpoint.architecture, (*KINDS, "depth"), FRACTIONS)
    model = checkpoint.module().train()
    family, groups = Family(model, nesting), axis_groups(nesting, checkpoint.architecture)
    rng = torch.Generator().manual_seed(0)
    drawn = [mix(nesting, groups, rng) for _ in range(SWITCHES)]
    for submodel in drawn:
        family.member(submodel)  # each depth's graph is made once
    compiled_ms = [1000 * clocked(lambda s=s: family.member(s)) for s in drawn]
    members = [family.member(submodel) for submodel in drawn]
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    switches_ms = []
    members[0].enter()
    for before, after in itertools.pairwise(members):
        switches_ms.append(1000 * clocked(lambda b=before, a=after: (b.leave(), a.enter())))
    members[-1].leave()
    (middle, spread), compiling_ms = summary(switches_ms), statistics.median(compiled_ms)
    note = f"of {SWITCHES} mixed ones ({', '.join(KINDS)}, depth); {compiling_ms:.2f} ms to compile one"
    emit(claim, middle, spread=spread, note=note)


def clocked(call: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    begun = time.process_time()
    call()
    return time.process_time() - begun


if __name__ == "__main__":
    main()
