"""What a draft is worth in speculative decoding (Leviathan et al. 2023), the model being the target.

``acceptance_rate`` is the mean over the data's scored positions of sum min(p, q), the chance that a sampled draft token
is taken; ``greedy_match`` the share of equal most probable tokens. ``tokens_per_call`` follows from the rate for a
number of drafted tokens, if every token is taken independently: (1 - a^(K + 1)) / (1 - a). The other two are counted
over texts that are really continued, with the passes of the target over their prompts.
"""

from typing import TYPE_CHECKING, Any

from archtool.data.batches import Batch
from archtool.data.positions import counted_positions
from archtool.errors import InputError
from archtool.evaluate.fits import check_inputs
from archtool.evaluate.loop import check_finite, output, outputs_of
from archtool.evaluate.metrics import Metrics
from archtool.evaluate.registry import TASKS, Settings
from archtool.evaluate.statistics import mean_stderr, proportion_stderr

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

TEXTS = 8
"""Prompts from the data that are continued."""
PROMPT = 16
STEPS = 32


def run(module: "nn.Module", settings: Settings) -> Metrics:
    """Acceptance on the data as it stands, then a few texts continued, sampled and greedily."""
    assert settings.parent is not None
    count = settings.options.draft_tokens
    taken_S, same_S = on_data(module, settings.parent, settings)
    rate, match = float(taken_S.mean()), float(same_S.double().mean())
    error = mean_stderr(taken_S.numpy())
    expected, slope = expected_tokens(rate, count)
    values = {"acceptance_rate": rate, "greedy_match": match, "tokens_per_call": expected}
    stderr = {
        "acceptance_rate": error,
        "greedy_match": proportion_stderr(match, len(same_S)),
        "tokens_per_call": slope * error,
    }
    for name, temperature in (("sampled_tokens_per_call", 1.0), ("greedy_tokens_per_call", 0.0)):
        found = continued(module, settings.parent, settings, temperature)
        if len(found):
            values[name], stderr[name] = float(found.mean()), mean_stderr(found)
    return Metrics("speculation", values, len(settings.batches.data), stderr, TASKS["speculation"].directions)


def expected_tokens(rate: float, count: int) -> tuple[float, float]:
    """Tokens per pass of the target for an acceptance rate and a number of drafted tokens, and its derivative."""
    return sum(rate**i for i in range(count + 1)), sum(i * rate ** (i - 1) for i in range(1, count + 1))


def on_data(module: "nn.Module", draft: "nn.Module", settings: Settings) -> "tuple[Tensor, Tensor]":
    """The chance of being taken and whether the most probable tokens are equal, at every scored position."""
    import torch

    taken: list[Tensor] = []
    same: list[Tensor] = []
    for batch, outputs in outputs_of(module, settings, "evaluate speculation"):
        if hasattr(draft, "architecture"):
            check_inputs(draft.architecture, batch.inputs)  # type: ignore[arg-type]
        both = [output(found, "logits", "speculation") for found in (outputs, draft(**batch.inputs))]
        chance, equal = _compared(both[0], both[1], batch)
        taken.append(chance)
        same.append(equal)
    taken_S, same_S = torch.cat(taken), torch.cat(same)
    if not len(taken_S):
        raise InputError("no token of the data is scored", "give documents of two tokens or more")
    return taken_S, same_S


def _compared(target: "Tensor", draft: "Tensor", batch: Batch) -> "tuple[Tensor, Tensor]":
    import torch

    from archtool.model.speculate import overlap

    if target.shape != draft.shape:
        shapes = f"{tuple(target.shape)} and {tuple(draft.shape)}"
        raise InputError(f"logits of the model and its draft differ in shape: {shapes}", "use one vocabulary")
    counts = counted_positions(batch, target)
    p, q = (torch.softmax(side.float(), -1) for side in (target, draft))
    chance = torch.where(counts, overlap(p, q).double(), 0.0)
    check_finite(chance, "the overlap with the draft", batch)
    return chance[counts].cpu(), (target.argmax(-1) == draft.argmax(-1))[counts].cpu()


def continued(module: "nn.Module", draft: "nn.Module", settings: Settings, temperature: float) -> "NDArray[Any]":
    """New tokens per pass of the target, for each of a few prompts spread over the data that leave room for some."""
    import numpy as np
    import torch

    from archtool.model.speculate import speculate

    data, device = settings.batches.data, settings.batches.device
    column = data.inputs["input_ids"]
    generator = torch.Generator(device).manual_seed(settings.seed)
    found = []
    chosen = np.unique(np.linspace(0, len(data) - 1, min(TEXTS, len(data))).astype(int))
    for row in column.take(data.rows[chosen]):
        prompt = torch.as_tensor(np.asarray(row[: max(1, min(PROMPT, len(row) // 2))]), device=device)[None]
        done = speculate(
            module, draft, prompt, min(STEPS, _room(module, draft) - prompt.shape[1]),
            draft_tokens=settings.options.draft_tokens, temperature=temperature, generator=generator,
        )  # fmt: skip
        if done.calls:
            found.append(done.new / done.calls)
    return np.asarray(found)


def _room(*modules: Any) -> int:
    """Tokens that all the models have positions for."""
    return min(int(module.architecture.fact.get("max_positions", PROMPT + STEPS)) for module in modules)
