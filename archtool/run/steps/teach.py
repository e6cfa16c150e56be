"""``teach``: write down what a model answers on training data, so that students need not run it."""

from dataclasses import replace
from typing import TYPE_CHECKING

from archtool.run.step import Context, Estimate, State, Step, option
from archtool.run.steps.training import AugmentOptions, augment_of, step_data

if TYPE_CHECKING:
    from archtool.data import Data

FOLDER = "teacher"
"""Where the store lies in the run directory."""


class TeachOptions(AugmentOptions):
    """Options of ``teach``."""

    passes: int = option(1, "Passes over the data, each augmented anew.", panel="Budget", ge=1)
    top_k: int = option(100, "Logits kept per example (or token); of fewer classes all.", panel="Budget", ge=1)
    batch_size: int = option(64, "Examples per forward pass.", ge=1)
    split: str = option("train", "Which split of the data to use; empty: all of it.", panel="Input")


class Teach(Step[TeachOptions]):
    """Stores the current model's logits for `train --teacher-store`."""

    name = "teach"
    Options = TeachOptions
    summary = "Store a teacher's logits on augmented data, for train --teacher-store."
    examples = (
        "archtool teach large/ --data images/ --passes 30 --top-k 20 --shift 2 --flip --out taught",
        "archtool train small/ --teacher-store taught/teacher --data images/ --steps 5000 --shift 2 --flip",
    )
    shared = ("task", "data", "columns", "threads", "device")

    def run(self, state: State, options: TeachOptions, context: Context) -> State:
        """The state as it is, with what was stored in the records; a killed run goes on with the next pass."""
        from archtool.train.run import check_inputs
        from archtool.train.store import StoredTeacher

        data, place = step_data(context, state, options.split), context.folder / FOLDER
        check_inputs(state.checkpoint, data)
        if not place.exists():
            _store(state, data, options, context)
            (context.work / FOLDER).replace(place)
        spec = StoredTeacher(place).spec
        nbytes, kept = spec.disk_bytes(), f"{spec.kept} of {spec.classes} classes"
        context.log(f"teach: {spec.passes} x {spec.examples} examples, {kept}, {nbytes:,} bytes")
        record = {name: getattr(spec, name) for name in ("passes", "examples", "positions", "kept", "classes")}
        metrics = {**state.metrics, "teacher_bytes": float(nbytes)}
        return replace(state, metrics=metrics, records={**state.records, "teach": record})

    def estimate(self, state: State, options: TeachOptions) -> Estimate:
        """Said as a formula: how many examples there are is known when the data is read."""
        note = f"{options.passes} x examples x (8 + positions x (4 + {options.top_k} x 6)) bytes on disk"
        return Estimate(note=note)


def _store(state: State, data: "Data", options: TeachOptions, context: Context) -> None:
    from archtool.run.assess import loaded
    from archtool.train.objectives.teacher import weights_hash
    from archtool.train.store import TeachPlan, write_store

    plan, done = TeachPlan(options.passes, options.top_k, options.batch_size, context.seed), len(context.finished())
    for number in write_store(
        context.work / FOLDER, loaded(state.checkpoint, context), weights_hash(state.checkpoint), data,
        augment_of(options), plan, device=context.device, done=done, progress=context.progress,
    ):  # fmt: skip
        context.finish(f"pass {number}")
