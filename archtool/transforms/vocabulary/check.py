"""Does the trimmed model compute what the whole one did, on texts whose tokens all stay?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archtool.errors import MismatchError

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.model.checkpoint import Checkpoint

TOLERANCE = 1e-5


def largest_difference(
    parent: Checkpoint, child: Checkpoint, rows: Iterable[Sequence[int]], kept: Sequence[int]
) -> float | None:
    """The largest difference of any output, of logits over the vocabulary at the tokens that are left; None: no rows.

    Raises:
        MismatchError: it is more than rounding.
    """
    import torch

    new = {i: place for place, i in enumerate(kept)}
    before, after, worst = parent.module(), child.module(), None
    for row in rows:
        with torch.inference_mode():
            expected = before(**_inputs(parent, row))
            got = after(**_inputs(child, [new[i] for i in row]))
        for name, value in _sliced(expected, got, kept).items():
            gap = float((value - got[name]).abs().max())
            worst = max(worst or 0.0, gap)
            if not gap <= TOLERANCE * max(1.0, float(value.abs().max())):
                raise MismatchError(
                    f"{name} of a text whose tokens all stay differs by {gap:.3g}",
                    "This is a bug; do not use the model.",
                )
    return worst


def _inputs(checkpoint: Checkpoint, row: Sequence[int]) -> dict[str, Any]:
    import torch

    return {name: torch.tensor([list(row)]) for name in checkpoint.architecture.inputs if name.endswith("input_ids")}


def _sliced(expected: Mapping[str, Tensor], got: Mapping[str, Tensor], kept: Sequence[int]) -> dict[str, Tensor]:
    return {
        name: value if value.shape == got[name].shape else value[..., list(kept)] for name, value in expected.items()
    }
