"""``eval``: measure a model's quality on data."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from archtool.config.fields import InputPath
from archtool.errors import UsageError
from archtool.run.step import Context, Shared, State, Step, StepOptions, option

if TYPE_CHECKING:
    from archtool.model.checkpoint import Checkpoint


class EvalOptions(StepOptions):
    """Options of ``eval``."""

    draft: InputPath = option(None, "A small model that drafts tokens for this one (task lm).", panel="Input")
    draft_tokens: int = option(4, "Tokens drafted per pass of the model.", ge=1)
    index: InputPath = option(None, "The model that embeds the documents (task retrieval). [itself]", panel="Input")
    least_score: float = option(4.0, "Retrieval: scored pairs from here on are true.")


class Eval(Step[EvalOptions]):
    """Evaluation on the recipe's data and task."""

    name: ClassVar[str] = "eval"
    Options = EvalOptions
    summary: ClassVar[str] = "Measure a model's quality on data."
    examples: ClassVar[tuple[str, str]] = (
        "archtool eval MiniLM --task similarity --data stsb-en-test.csv --json",
        "archtool eval nested/ --draft small/ --task lm --data corpus.txt --require 'acceptance_rate>=0.7'",
    )
    writes: ClassVar[bool] = False
    shared: ClassVar[tuple[Shared, ...]] = (
        "task", "data", "columns", "length", "threads", "device", "dtype", "require",
    )  # fmt: skip

    def run(self, state: State, options: EvalOptions, context: Context) -> State:
        """Metrics and costs of the model, and what a draft or an index makes of it."""
        from archtool.run.assess import assess
        from archtool.run.beside import Beside

        if not context.recipe.data:
            raise UsageError("eval needs data", "Give --data FILE and, where it is not obvious, --task.")
        draft, index = (_opened(path) for path in (options.draft, options.index))
        return assess(state, context, Beside(draft, options.draft_tokens, index, options.least_score))


def _opened(path: str | None) -> Checkpoint | None:
    from archtool.model.load import load

    return None if path is None else load(path)
