"""Encoded examples: named columns of model inputs and targets, and which of their rows are taken.

Targets by task: ``labels`` (N,) class ids; ``next_ids`` (N, T), the token that the logits at each position
must predict, `IGNORE` where nothing is scored; ``future`` (N, horizon, V). Similarity has `Pairs`
over distinct sentences instead, so that each sentence is embedded once.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from archtool.data.columns import Column, feed_array
from archtool.data.spec import DataSpec
from archtool.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from archtool.data.tokenizers import Tokenizer

IGNORE = -100


@dataclass(frozen=True)
class Pairs:
    """Pairs (P, 2) of rows with a gold score (P,) each."""

    rows_P2: "NDArray[Any]"
    scores_P: "NDArray[Any]"


@dataclass(frozen=True)
class Padding:
    """How rows of different length are made equal: value per column, side, and a fixed length if any."""

    fill: Mapping[str, int]
    side: str = "right"
    length: int | None = None


@dataclass(frozen=True)
class Data:
    """Examples ready to be batched.

    Args:
        spec: the resolved spec: what was left open in the user's one is stated here.
        task: one of `archtool.data.TASKS`.
        inputs: model inputs by name.
        targets: targets by name (none for unlabelled data).
        rows: which rows of the columns are the examples, in order.
        padding: how ragged columns are padded.
        pairs: for similarity, over positions of ``rows``.
        class_names: in id order, where known.
        notes: what was shortened or left out, counted.
        tokenizer: what made the ids, for text.
    """

    spec: DataSpec
    task: str
    inputs: Mapping[str, Column]
    targets: Mapping[str, Column]
    rows: "NDArray[Any]"
    padding: Padding
    pairs: Pairs | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    tokenizer: "Tokenizer | None" = None

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, positions: "NDArray[Any]") -> "Data":
        """These examples only, in this order; pairs are dropped, since they would point elsewhere."""
        return replace(self, rows=self.rows[positions], pairs=None)

    def lengths(self) -> "NDArray[Any]":
        """Length of each example before padding (zeros where examples are equal)."""
        import numpy as np

        lengths = [column.lengths(self.rows) for column in self.inputs.values()]
        return np.asarray(np.max(lengths, axis=0))

    def digest(self) -> str:
        """A hash of examples, targets and preprocessing, equal exactly when batches would be equal."""
        digest = hashlib.sha256()
        stated = {"task": self.task, "preprocess": _plain(self.spec), "padding": asdict(self.padding)}
        digest.update(json.dumps(stated, sort_keys=True, default=str).encode())
        for name, column in sorted({**self.inputs, **self.targets}.items()):
            digest.update(name.encode())
            column.feed(digest)
        feed_array(digest, self.rows)
        if self.pairs is not None:
            feed_array(digest, self.pairs.rows_P2)
            feed_array(digest, self.pairs.scores_P)
        return digest.hexdigest()


def calibration(data: Data, n: int, seed: int = 0) -> Data:
    """``n`` examples with distinct inputs, drawn with a seed; where there are fewer, all of them (noted)."""
    import numpy as np

    if n < 1:
        raise UsageError(f"{n} calibration examples", "ask for at least 1")
    chosen: list[int] = []
    seen: set[bytes] = set()
    for position in np.random.default_rng(seed).permutation(len(data)):
        key = _content(data, int(position))
        if key not in seen:
            seen.add(key)
            chosen.append(int(position))
        if len(chosen) == n:
            break
    subset = data.select(np.asarray(chosen, dtype=np.int64))
    if len(chosen) < n:
        note = f"{n} calibration examples asked, {len(chosen)} distinct ones exist"
        subset = replace(subset, notes=(*subset.notes, note))
    return subset


def _content(data: Data, position: int) -> bytes:
    digest = hashlib.sha256()
    for column in data.inputs.values():
        feed_array(digest, column.take(data.rows[position : position + 1])[0])
    return digest.digest()


def _plain(spec: DataSpec) -> object:
    """The preprocessing without the tokenizer's place: its effect is in the ids."""
    values = asdict(spec.preprocess) if spec.preprocess else {}
    values.pop("tokenizer", None)
    return values
