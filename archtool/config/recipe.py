"""What a recipe is: a model, data, and steps, with how to compute and what must hold."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from archtool.config.check import FieldError
from archtool.config.gates import parse_gate
from archtool.errors import UsageError

DTypes = Literal["fp32", "fp16", "bf16", "fp64"]


class ModelSource(BaseModel):
    """Where the first model comes from: a path or hub id, or an architecture to build."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str | None = Field(None, description="folder, file or hub id of a checkpoint")
    build: str | dict[str, Any] | None = Field(None, description="an architecture, by name, file or mapping")
    names: str | None = Field(None, description="a table of the checkpoint's own tensor names")

    @model_validator(mode="after")
    def _one_source(self) -> "ModelSource":
        if (self.path is None) == (self.build is None):
            raise FieldError("give either `path` or `build`", "model: my_model/  or  model: {build: vit-tiny}")
        return self

    @property
    def label(self) -> str:
        """A short name for folders and titles."""
        if self.path is not None:
            return Path(self.path).name or "model"
        return Path(self.build).stem if isinstance(self.build, str) else "built"


def _path_mapping(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Model = Annotated[ModelSource, BeforeValidator(_path_mapping)]
Data = Annotated[dict[str, Any], BeforeValidator(_path_mapping)]


def _gate(text: str) -> str:
    try:
        parse_gate(text)
    except UsageError as problem:
        raise FieldError(problem.what, problem.hint) from problem
    return text


def _task(text: str) -> str:
    from archtool.evaluate.registry import find_task

    try:
        find_task(text)
    except UsageError as problem:
        raise FieldError(problem.what, problem.hint) from problem
    return text


def _device(text: str) -> str:
    if re.fullmatch(r"cpu|cuda(:\d+)?|mps|xpu(:\d+)?", text) is None:
        raise FieldError(f"{text!r} is no device", "write cpu, cuda, cuda:1, xpu or mps")
    return text


Task = Annotated[str, AfterValidator(_task)]
Device = Annotated[str, AfterValidator(_device)]
Gate = Annotated[str, AfterValidator(_gate)]
Gates = Annotated[tuple[Gate, ...], BeforeValidator(_as_list)]
Words = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
StepSpec = dict[str, dict[str, Any]]


class Recipe(BaseModel):
    """A whole run. ``steps`` are single-key mappings ``{verb: options}``; see `archtool.config.load`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Model | None = Field(None, description="path, hub id, or {build: architecture}")
    data: Data | None = Field(None, description="path, or a mapping with path, columns, splits")
    seed: int = Field(0, ge=0, lt=2**63)
    steps: tuple[StepSpec, ...] = Field(min_length=1, description="a list such as `- prune: {budget: params=0.5x}`")
    task: Task | None = Field(None, description="what is measured: a task's name or my.py:metric")
    runtime: str = "onnxruntime"
    batch: int = Field(1, ge=1)
    length: int = Field(64, ge=1)
    threads: int | None = Field(None, ge=1, description="None: all cores")
    device: Device = "cpu"
    dtype: DTypes = "fp32"
    protect: Words = Field((), description="blocks or tensors that stay as they are")
    require: Gates = Field((), description="quality gates such as accuracy>=0.9")
    lock: dict[str, Any] | None = Field(None, description="written by archtool into recipe.lock.yaml")

    @property
    def verbs(self) -> tuple[str, ...]:
        """The steps' names in order."""
        return tuple(next(iter(step)) for step in self.steps)

    @property
    def options(self) -> tuple[Mapping[str, Any], ...]:
        """The steps' options in order."""
        return tuple(next(iter(step.values())) for step in self.steps)

    def resolved(self) -> dict[str, Any]:
        """Plain data with every default filled in, without the lock's own record."""
        return self.model_dump(mode="json", exclude={"lock"})
