"""A second model that an evaluation needs: a draft, or the encoder of an index; and whether it fits the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archtool.errors import InputError, UsageError

if TYPE_CHECKING:
    from archtool.data import Data
    from archtool.evaluate.registry import TaskOptions
    from archtool.model.checkpoint import Checkpoint
    from archtool.run.step import Context


@dataclass(frozen=True)
class Beside:
    """What ``eval`` was given beside the model.

    Attributes:
        draft: drafts tokens in speculative decoding.
        draft_tokens: how many of them at a time.
        index: embeds the documents of retrieval; None: the model itself.
        least_score: the gold score from which a pair counts as true.
    """

    draft: Checkpoint | None = None
    draft_tokens: int = 4
    index: Checkpoint | None = None
    least_score: float = 4.0

    def options(self, checkpoint: Checkpoint, data: Data, context: Context) -> TaskOptions:
        """The tasks' own options, the index made; `UsageError` or `InputError` where a model does not fit."""
        from archtool.evaluate.registry import TaskOptions

        task = context.recipe.task or data.task
        if self.draft is not None:
            if task != "lm":
                raise UsageError(f"--draft is for the task lm, not {task}", "Give --task lm and a text.")
            check_vocabulary(checkpoint, self.draft)
        if self.index is None:
            return TaskOptions(self.draft_tokens, None, self.least_score)
        if task != "retrieval":
            raise UsageError(f"--index is for the task retrieval, not {task}", "Give --task retrieval.")
        return TaskOptions(self.draft_tokens, index_of(self.index, context), self.least_score)


def index_of(checkpoint: Checkpoint, context: Context) -> Any:
    """Embeddings (N, D) of the recipe's sentences by a model, with its own tokenizer."""
    from archtool.evaluate.registry import embeddings
    from archtool.run.assess import BATCH, loaded
    from archtool.run.inputs import evaluation_data, pooling_of

    data = evaluation_data(context.recipe, checkpoint)
    return embeddings(
        loaded(checkpoint, context), data, batch_size=BATCH, device=context.device, progress=context.progress,
        pooling=pooling_of(checkpoint),
    )  # fmt: skip


def check_vocabulary(model: Checkpoint, draft: Checkpoint) -> None:
    """`InputError` where the two do not read the same ids: sizes, or the tokenizers that both have."""
    hint = "A draft needs the target's tokenizer: extract it from the target, or train it with the same one."
    sizes = [checkpoint.architecture.size.get("vocab") for checkpoint in (model, draft)]
    if sizes[0] != sizes[1]:
        raise InputError(f"the model has {sizes[0]} tokens in its vocabulary, the draft {sizes[1]}", hint)
    first, second = (_tokenizer(checkpoint) for checkpoint in (model, draft))
    if first is None or second is None:
        return
    words = [_words(tokenizer) for tokenizer in (first, second)]
    if words[0] != words[1]:
        count = sum(words[1].get(word) != place for word, place in words[0].items())
        raise InputError(f"the tokenizers of the model and the draft differ in {count} of {len(words[0])} tokens", hint)


def _tokenizer(checkpoint: Checkpoint) -> Any:
    """The tokenizer of a checkpoint's folder; None where it has none."""
    from archtool.data.spec import TokenPreprocess
    from archtool.data.tokenizers import open_tokenizer

    try:
        return open_tokenizer(
            TokenPreprocess(str(checkpoint.source.tokenizer or "model")), checkpoint.source.folder, ""
        )
    except InputError:
        return None


def _words(tokenizer: Any) -> dict[str, int]:
    """Token → id."""
    if hasattr(tokenizer, "inner"):
        return dict(tokenizer.inner.get_vocab())
    return {f"{place} {tokenizer.decode([place])}": place for place in range(tokenizer.vocabulary_size)}
