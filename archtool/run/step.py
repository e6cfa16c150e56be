"""What a step is: the contract between the engine and the methods.

A step is a class with typed options and a ``run`` that turns one `State` into the next. It neither prints
nor decides where files go; the engine persists what it returns. A step file keeps torch inside its
functions, so that its options can be listed without it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from archtool.progress import SILENT, Progress

if TYPE_CHECKING:
    from archtool.config.recipe import Recipe
    from archtool.run.journal import Journal

Panel = Literal["Input", "Budget", "Method", "Output", "Runtime"]
Shared = Literal[
    "task", "data", "columns", "runtime", "batch", "length", "threads", "device", "dtype",
    "protect", "recover", "require", "names",
]  # fmt: skip
"""Flags that set a field of the recipe rather than an option of one step."""


class StepOptions(BaseModel):
    """Base of every step's options: unknown keys are errors, values do not change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoOptions(StepOptions):
    """For a step that takes none."""


def option(
    default: Any = ..., help: str = "", *, panel: Panel = "Method", flags: tuple[str, ...] = (), **limits: Any
) -> Any:
    """A field of a step's options, with what the command line shows for it.

    Args:
        default: its value when it is not given; ``...`` makes it required.
        help: one sentence.
        panel: the help panel it stands in.
        flags: other spellings than ``--field-name``, such as ``("--keep", "-k")``.
        limits: pydantic's own (``gt``, ``le``, ``pattern``, ...).
    """
    shown: dict[str, Any] = {"panel": panel, "flags": list(flags)}
    return Field(default, description=help, json_schema_extra=shown, **limits)


@dataclass(frozen=True)
class State:
    """What flows from step to step; change it with `dataclasses.replace`.

    Attributes:
        checkpoint: the current model (opaque to the engine), or None before one is built.
        parent: the model that reports compare with.
        metrics: measured numbers by the metric's own name, of the current model.
        edits: the `Edit` objects applied so far, in order.
        records: other results as JSON values, by step or panel name.
        derived: the checkpoint, if the edits alone make it from what the step got (no new values): then the
            engine may keep the edits instead of the weights. Any other checkpoint here counts as None.
    """

    checkpoint: Any = None
    parent: Any = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    edits: tuple[Any, ...] = ()
    records: Mapping[str, Any] = field(default_factory=dict)
    derived: Any = None


@dataclass(frozen=True)
class Estimate:
    """What a step will need; 0 where it cannot say."""

    seconds: float = 0.0
    memory_bytes: int = 0
    disk_bytes: int = 0
    note: str = ""


def _no_log(message: str) -> None:
    return None


@dataclass(frozen=True)
class Context:
    """Where and how a step runs.

    Attributes:
        recipe: the resolved recipe (task, data, runtime, batch, length, protect, ... are its fields).
        index: the position of this step in the recipe, from 0.
        seed: the run's seed.
        folder: the run directory.
        work: this step's own scratch folder; it survives an interruption and goes when the step ends.
        journal: finished units of work; see `finished` and `finish`.
        progress: shows phases of work.
        log: takes one line for the user.
        detail: takes one line that is shown with ``-v``.
    """

    recipe: "Recipe"
    index: int
    seed: int
    folder: Path
    work: Path
    journal: "Journal"
    progress: Progress = SILENT
    log: Callable[[str], None] = _no_log
    detail: Callable[[str], None] = _no_log

    @property
    def threads(self) -> int | None:
        """Threads to compute with; None means all cores."""
        return self.recipe.threads

    @property
    def device(self) -> str:
        """The device to compute on."""
        return self.recipe.device

    @property
    def dtype(self) -> str:
        """The data type to compute in."""
        return self.recipe.dtype

    def finished(self) -> dict[str, dict[str, Any]]:
        """What this step recorded with `finish`, also in an earlier, interrupted process: unit → facts."""
        return self.journal.units(self.index)

    def finish(self, unit: str, **facts: Any) -> None:
        """Record that one unit of this step (a block, a trial, an epoch) is done; it is on disk on return."""
        self.journal.append({"event": "unit", "step": self.index, "unit": unit, **facts})


OptionsT = TypeVar("OptionsT", bound=BaseModel)


class Step(Generic[OptionsT]):
    """Base of every step; a subclass sets the class attributes and writes ``run``.

    Attributes:
        name: the verb, in the recipe and on the command line.
        Options: the pydantic class of its options.
        summary: one sentence for help and reports.
        examples: two complete command lines for the help.
        writes: whether it makes a new model (False for ``eval``, ``bench``, ...).
        distributed: whether all processes of `torchrun` must run it together.
        needs_model: whether a model must come from the recipe or an earlier step.
        modules: whether it takes a module of a user's Python file (``FILE.py:FUNCTION``) as model.
        shared: which of the recipe's own fields this verb takes as flags.
    """

    name: ClassVar[str]
    Options: ClassVar[type[BaseModel]] = NoOptions
    summary: ClassVar[str]
    examples: ClassVar[tuple[str, str]]
    writes: ClassVar[bool] = True
    distributed: ClassVar[bool] = False
    needs_model: ClassVar[bool] = True
    modules: ClassVar[bool] = False
    shared: ClassVar[tuple[Shared, ...]] = ()

    def run(self, state: State, options: OptionsT, context: Context) -> State:
        """Do the work and return the next state; errors of the input are `ArchtoolError`."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it runs")

    def estimate(self, state: State, options: OptionsT) -> Estimate:
        """What it will need, for ``--dry-run``; must be quick and must not load weights."""
        return Estimate()
