"""``export``: write a model so that other programs load it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator

from archtool.config.fields import split_items
from archtool.run.step import Context, Estimate, Shared, State, Step, StepOptions, option

Formats = Annotated[tuple[Literal["hf", "onnx"], ...], BeforeValidator(split_items)]
Dialect = Literal["auto", "stock", "sibling", "remote", "padded", "native"]


class ExportOptions(StepOptions):
    """Options of ``export``."""

    dialect: Dialect = option("auto", "How the model folder is written; auto: the first exact one.", panel="Output")
    format: Formats = option(("hf",), "File formats: hf, onnx.", panel="Output")


class Export(Step[ExportOptions]):
    """Choose the dialect and the formats of the final model."""

    name: ClassVar[str] = "export"
    Options = ExportOptions
    summary: ClassVar[str] = "Write a model so that other programs load it, and prove that it is the same."
    examples: ClassVar[tuple[str, str]] = (
        "archtool export runs/prune-vit-1a2b/model --format onnx --out exported",
        "archtool export my-ragged-llama --dialect padded",
    )
    shared: ClassVar[tuple[Shared, ...]] = ("task", "data", "columns", "length", "threads", "require")

    def estimate(self, state: State, options: ExportOptions) -> Estimate:
        """A whole copy of the weights."""
        from archtool.run.steps.editing import disk_estimate

        return disk_estimate(state)

    def run(self, state: State, options: ExportOptions, context: Context) -> State:
        """The same model; the folder is written as asked when the run ends."""
        from archtool.export.model import chosen
        from archtool.run.assess import assess

        name, _, reasons = chosen(state.checkpoint, options.dialect)
        context.log(f"dialect: {name}" + "".join(f"; not {who}: {why}" for who, why in reasons))
        wanted = {"dialect": options.dialect, "formats": list(options.format)}
        after = replace(state, checkpoint=replace(state.checkpoint), records={**state.records, "export": wanted})
        if state.parent is state.checkpoint:
            after = replace(after, parent=after.checkpoint)
        return assess(after, context)
