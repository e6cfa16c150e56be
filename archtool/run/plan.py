"""What a run will do before it does it: its steps, options, folder and estimates."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from archtool.config.recipe import Recipe
from archtool.errors import RecipeError, UsageError
from archtool.registry import load
from archtool.run.fingerprint import fingerprint, input_hashes
from archtool.run.folder import default_folder
from archtool.run.modules import is_module
from archtool.run.step import Estimate, State, Step


@dataclass(frozen=True)
class PlannedStep:
    """One step, ready to run."""

    index: int
    verb: str
    step: Step[Any]
    options: BaseModel

    @property
    def name(self) -> str:
        """The name of its folder under ``.work``."""
        return f"{self.index}-{self.verb}"


@dataclass(frozen=True)
class Plan:
    """A recipe bound to its steps, inputs and output folder (None: nothing is kept)."""

    recipe: Recipe
    steps: tuple[PlannedStep, ...]
    inputs: Mapping[str, str]
    fingerprint: str
    folder: Path | None

    @property
    def writes(self) -> bool:
        """Whether any step makes a new model."""
        return any(planned.step.writes for planned in self.steps)


def make_plan(recipe: Recipe, out: Path | None = None) -> Plan:
    """Bind a recipe to its steps; raises `RecipeError` when the first step has no model to work on.

    Without ``out``, a run that makes a model goes to a folder under ``runs/``; one that only measures keeps
    nothing.
    """
    steps = tuple(_bind(i, verb, recipe.options[i]) for i, verb in enumerate(recipe.verbs))
    if recipe.model is None and steps[0].step.needs_model:
        hint = "give `model: path/to/checkpoint` in the recipe, or MODEL on the command line"
        raise RecipeError(f"`{steps[0].verb}` needs a model and the recipe names none", hint)
    if is_module(recipe) and not all(planned.step.modules for planned in steps):
        verb = next(planned.verb for planned in steps if not planned.step.modules)
        raise UsageError(f"`{verb}` takes no module of a Python file", "`archtool prune` does.")
    inputs = input_hashes(recipe)
    identity = fingerprint(recipe, inputs)
    label = recipe.model.label if recipe.model is not None else "new"
    default = default_folder(recipe.verbs, label, identity) if any(s.step.writes for s in steps) else None
    return Plan(recipe, steps, inputs, identity, out if out is not None else default)


def estimates(plan: Plan, state: State) -> tuple[Estimate, ...]:
    """Each step's estimate, seen from the state before the run."""
    return tuple(planned.step.estimate(state, planned.options) for planned in plan.steps)


def _bind(index: int, verb: str, options: Mapping[str, Any]) -> PlannedStep:
    made = load("steps", verb)
    step: Step[Any] = made() if isinstance(made, type) else made
    return PlannedStep(index, verb, step, step.Options.model_validate(dict(options)))
