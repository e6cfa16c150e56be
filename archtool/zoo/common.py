"""What the builders of the zoo share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from archtool.families.base import Draft
from archtool.families.encoder import plain
from archtool.ir.operator import Operator
from archtool.operators.dense import Dense
from archtool.operators.grid import cells_after

Count = Annotated[int, Field(ge=1)]
"""A positive whole number, as the type of a builder's setting."""


def image_draft(image_size: int, num_channels: int) -> Draft:
    """An empty architecture without a family that reads square images."""
    draft = Draft("", ("pixel_values",))
    draft.facts.update(image_height=image_size, image_width=image_size)
    draft.sizes["channels"] = num_channels
    return draft


def classifier(draft: Draft, classes: int, pool: Operator | None = None) -> None:
    """Logits of the stream that leaves the block before, pooled where it is not yet."""
    draft.sizes["classes"] = classes
    pooled = [plain("pool", pool)] if pool else []
    draft.block("head", *pooled, plain("score", Dense(into="classes")))
    draft.output("logits", "head")


def grid_after(grid: Sequence[int], kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """Rows and columns that a square convolution or pool leaves."""
    rows, columns = cells_after(grid, (kernel,) * 2, (stride,) * 2, (padding,) * 2)
    return rows, columns
