"""``eval``: measure a model's quality on data."""

from __future__ import annotations

from typing import ClassVar

from archtool.errors import UsageError
from archtool.run.step import Context, NoOptions, Shared, State, Step


class Eval(Step[NoOptions]):
    """Evaluation on the recipe's data and task."""

    name: ClassVar[str] = "eval"
    Options = NoOptions
    summary: ClassVar[str] = "Measure a model's quality on data."
    examples: ClassVar[tuple[str, str]] = (
        "archtool eval MiniLM --task similarity --data stsb-en-test.csv --json",
        "archtool eval my-vit --task image-classification --data fashion_mnist --require 'accuracy>=0.9'",
    )
    writes: ClassVar[bool] = False
    shared: ClassVar[tuple[Shared, ...]] = (
        "task", "data", "columns", "length", "threads", "device", "dtype", "require",
    )  # fmt: skip

    def run(self, state: State, options: NoOptions, context: Context) -> State:
        """Metrics and costs of the model."""
        from archtool.run.assess import assess

        if not context.recipe.data:
            raise UsageError("eval needs data", "Give --data FILE and, where it is not obvious, --task.")
        return assess(state, context)
