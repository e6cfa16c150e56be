"""Translation and other text to text: loss per target token, and greedy output against the target.

The loss is that of teacher forcing. The output is generated greedily, with at most twice the tokens of the longest
target and ten more; ``exact_match`` is the share of outputs that are the target, ``cer`` the character error rate:
insertions, deletions and substitutions over the targets' characters.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from archtool.data.batches import Batch
from archtool.data.dataset import IGNORE
from archtool.errors import InputError
from archtool.evaluate.loop import outputs_of, target
from archtool.evaluate.metrics import Metrics
from archtool.evaluate.registry import TASKS, Settings
from archtool.evaluate.statistics import edit_distance, proportion_stderr
from archtool.evaluate.tasks.lm import TokenLosses

if TYPE_CHECKING:
    from torch import Tensor, nn


def run(module: "nn.Module", settings: Settings) -> Metrics:
    """Loss in nats per token, exact match and character error rate of greedy outputs."""
    data, losses = settings.batches.data, TokenLosses("translation")
    tokenizer: Any = data.tokenizer
    if not hasattr(tokenizer, "start"):
        raise InputError(f"{data.task} data has no source and target", "give pairs: --columns source=A target=B")
    texts: list[tuple[str, str]] = []
    longest = int(data.targets["next_ids"].lengths(data.rows).max()) if data.targets else 0
    for batch, outputs in outputs_of(module, settings, "evaluate translation"):
        losses.add(batch, outputs)
        written = greedy(module, batch, 2 * longest + 10, tokenizer)
        wanted = target(batch, "next_ids", "translation")
        read = [tokenizer.decode(_until(row, tokenizer.stop)) for row in wanted.tolist()]
        texts += zip(written, read, strict=True)
    same = sum(a == b for a, b in texts) / len(texts)
    errors, characters = sum(edit_distance(a, b) for a, b in texts), sum(len(b) for _, b in texts)
    values = {
        "loss": losses.mean,
        "exact_match": same,
        "cer": errors / max(characters, 1),
        "tokens": float(losses.tokens),
    }
    stderr = {"loss": losses.stderr, "exact_match": proportion_stderr(same, len(texts))}
    return Metrics("translation", values, len(texts), stderr, TASKS["translation"].directions)


def greedy(module: "nn.Module", batch: Batch, steps: int, tokenizer: Any) -> list[str]:
    """The model's texts for a batch's sources."""
    from archtool.model.generate import generate

    architecture: Any = module.architecture
    name = architecture.inputs[-1]
    given: dict[str, Tensor] = {k: v for k, v in batch.inputs.items() if not k.startswith("decoder_")}
    room = int(architecture.fact.get("max_positions", steps + 1)) - 1
    ids_BT = generate(module, batch.inputs[name][:, :1], min(steps, room), stop=tokenizer.stop, given=given)
    return [tokenizer.decode(_until(row, tokenizer.stop)) for row in ids_BT[:, 1:].tolist()]


def _until(ids: Sequence[int], stop: int | None) -> list[int]:
    """The ids before the first that ends the text."""
    kept = [i for i in ids if i != IGNORE]
    return kept[: kept.index(stop)] if stop in kept else kept
