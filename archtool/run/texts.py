"""Text from text with a model's own tokenizer: continuations of a language model, outputs of an encoder-decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from archtool.errors import InputError

if TYPE_CHECKING:
    from archtool.model.checkpoint import Checkpoint

STEPS = 100


def written(checkpoint: Checkpoint, texts: Sequence[str], steps: int = STEPS, prefix: str = "") -> list[str]:
    """The greedy output for each text: its continuation, or what it is turned into.

    Args:
        steps: tokens at most; a model with a table of positions ends with it.
        prefix: put before each text (T5's ``"translate English to German: "``).

    Raises:
        InputError: a model that gives no tokens, or no tokenizer in its folder.
    """
    from archtool.evaluate.fits import check_inputs

    arch = checkpoint.architecture
    head = dict(arch.outputs).get("logits")
    op = arch.block(head).layers[-1].op if head else None
    if op is None or op.kind != "head.lm":
        raise InputError(f"a model of family {arch.family!r} writes no text", "Give a language model or a translator.")
    read, module = _reader(checkpoint), checkpoint.module()
    found = []
    for text in texts:
        given, begun, stop, decode = read(prefix + text)
        if not all(ids.numel() for ids in (begun, *given.values())):
            raise InputError(f"the text {text!r} gives no token", "Give a longer text.")
        check_inputs(arch, {arch.inputs[0]: begun, **given})
        room = int(arch.fact.get("max_positions", steps + begun.shape[1])) - begun.shape[1]
        found.append(decode(_run(module, begun, min(steps, room), stop, given)))
    return found


def _run(module: Any, begun: Any, steps: int, stop: int | None, given: Any) -> list[int]:
    from archtool.model.generate import generate

    ids: list[int] = generate(module, begun, steps, stop=stop, given=given)[0].tolist()
    new = ids[begun.shape[1] :]
    return [*ids[: begun.shape[1]], *(new[: new.index(stop)] if stop in new else new)]


def _reader(checkpoint: Checkpoint) -> Any:
    """From a text to what the model is given beside it, what decoding starts with, the last token, and a decoder."""
    import torch

    from archtool.data.pair_tokenizers import open_pairs
    from archtool.data.spec import PairPreprocess, TokenPreprocess
    from archtool.data.tokenizers import open_tokenizer

    folder, own = checkpoint.source.folder, str(checkpoint.source.tokenizer or "model")
    if len(checkpoint.architecture.inputs) > 1:
        pairs = open_pairs(PairPreprocess(own), folder)
        return lambda text: (
            {"input_ids": torch.tensor([pairs.encode(text)])},
            torch.tensor([[pairs.start]]), pairs.stop, lambda ids: pairs.decode(ids[1:]),
        )  # fmt: skip
    tokenizer = open_tokenizer(TokenPreprocess(own), folder, "")
    stop = getattr(getattr(tokenizer, "inner", None), "eos_token_id", None)
    return lambda text: ({}, torch.tensor([tokenizer.encode(text)]), stop, tokenizer.decode)
