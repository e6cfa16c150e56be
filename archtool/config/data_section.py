"""The keys of a recipe's ``data`` section, checked before anything runs; `archtool.data.DataSpec` explains them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class DataSection(BaseModel):
    """Types and limits of the keys; ``path`` is the source, or ``train`` and ``test`` are one each."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    path: str | None = None
    train: str | None = None
    test: str | None = None
    task: Literal["", "image-classification", "text-classification", "similarity", "lm", "forecast"] | None = None
    columns: dict[str, str] | None = None
    split: Literal["", "train", "val", "test"] = ""
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    preprocess: dict[str, Any] | None = None
    limit: int | None = Field(None, ge=1)
    labelled: bool = True
    classes: tuple[str, ...] = ()
    header: Literal["auto", "yes", "no"] = "auto"
    seed: int = 0
