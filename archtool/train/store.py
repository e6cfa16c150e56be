"""A teacher's logits written down: the largest of them, for every example of several passes, and how it was augmented.

Source: Wu et al. 2022 (TinyViT): top-k values and indices with the seed of the augmentation; what is left of the
probability is spread evenly over the other classes. With k = all classes the logits come back as they were.

A store is a folder of four arrays and ``store.json``. Legend: `S` passes, `N` examples, `P` positions of an example
(tokens, cells of a map; 1 for classes), `K` kept classes, `C` classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.checkpoint.atomic import atomic_file
from archtool.data.batches import Batch
from archtool.data.dataset import Data
from archtool.data.positions import by_position
from archtool.errors import InputError, UsageError
from archtool.evaluate.loop import output
from archtool.progress import SILENT, Progress
from archtool.train.augment import Augment
from archtool.train.draws import seeds_at
from archtool.train.feed import Feed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

FILE = "store.json"
NEXT = "next_ids"
HEADER_BYTES = 128
"""Of each array file."""


@dataclass(frozen=True)
class StoreSpec:
    """What a store holds.

    Attributes:
        teacher: hash of the teacher's weights.
        data: digest of the data.
        augment: the settings of `Augment`.
        side: of the padding, where examples differ in length.
        passes / examples / positions / kept / classes: S, N, P, K, C.
    """

    teacher: str
    data: str
    augment: Mapping[str, Any]
    side: str
    passes: int
    examples: int
    positions: int
    kept: int
    classes: int

    def arrays(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """Name → shape and type of each array."""
        rows = (self.passes, self.examples, self.positions)
        index = "<u2" if self.classes <= 2**16 else "<u4"
        return {
            "seeds": (rows[:2], "<u8"),
            "values": ((*rows, self.kept), "<f4"),
            "indices": ((*rows, self.kept), index),
            "normalisers": (rows, "<f4"),
        }

    def disk_bytes(self) -> int:
        """Bytes of the arrays' files: ``S N (8 + P (4 + K (4 + 2)))`` and four headers, up to 65,536 classes."""
        import numpy as np

        sizes = (int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in self.arrays().values())
        return sum(sizes) + HEADER_BYTES * len(self.arrays())


@dataclass(frozen=True)
class TeachPlan:
    """What is to be stored.

    Attributes:
        passes: over the data; a student that takes more sees them again.
        kept: the K largest logits; more than there are classes means all.
        batch_size: examples per forward pass.
        seed: of the augmentation.
    """

    passes: int = 1
    kept: int = 100
    batch_size: int = 64
    seed: int = 0


def write_store(
    folder: Path, module: nn.Module, teacher: str, data: Data, augment: Augment, plan: TeachPlan,
    *, device: str = "cpu", done: int = 0, progress: Progress = SILENT,
) -> Iterator[int]:  # fmt: skip
    """Run a teacher over the data and write its logits pass by pass; the number of each finished pass is yielded.

    Args:
        folder: made where there is none.
        module: the teacher, on ``device``.
        teacher: the hash of its weights.
        data: what it sees, changed by ``augment``.
        plan: how much.
        done: passes that an earlier process has written.

    Raises:
        InputError: a teacher without logits, or examples of different lengths.
    """
    feed = Feed(data, plan.batch_size, plan.seed, device=device)
    spec = _spec(module.eval(), feed, teacher, augment, plan)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = _open(folder, spec, "r+" if done else "w+")
    with progress.phase("teach", total=plan.passes * len(data)) as phase:
        phase.advance(done * len(data))
        for number in range(done, plan.passes):
            for batch in _pass(feed, plan, number):
                _write(arrays, module, batch, augment, plan.seed, feed)
                phase.advance(len(batch.positions))
            for array in arrays.values():
                array.flush()
            yield number
    _finish(folder, spec)


def _spec(module: nn.Module, feed: Feed, teacher: str, augment: Augment, plan: TeachPlan) -> StoreSpec:
    import numpy as np

    _, positions, classes = _logits(module, feed.take(np.arange(1))).shape
    kept, longest = min(plan.kept, classes), _longest(feed.data, positions)
    data, side = feed.data.digest(), feed.data.padding.side
    return StoreSpec(teacher, data, asdict(augment), side, plan.passes, len(feed.data), longest, kept, classes)


def _longest(data: Data, probed: int) -> int:
    """The most positions that an example has; ``probed`` is what the first one has."""
    lengths = data.lengths()
    if probed == 1 or lengths.min() == lengths.max():
        return probed
    if NEXT not in data.targets:
        what = "the examples have different lengths, and a store has a row per position"
        raise InputError(what, "pad them: data.preprocess.padding=max_length, or teach without a store")
    return max(int(data.targets[NEXT].lengths(data.rows).max()), data.padding.length or 0)


def _used(batch: Batch, positions: int, side: str) -> slice:
    """Which positions of the store a batch, padded to its own longest example, has."""
    count = batch.targets[NEXT].shape[1] if positions > 1 and NEXT in batch.targets else positions
    return slice(0, count) if side == "right" else slice(positions - count, None)


def _pass(feed: Feed, plan: TeachPlan, number: int) -> Iterator[Batch]:
    """One pass in the data's own order."""
    import numpy as np
    import torch

    for begin in range(0, len(feed), plan.batch_size):
        positions = np.arange(begin, min(begin + plan.batch_size, len(feed)))
        yield replace(feed.take(positions), passes=torch.full((len(positions),), number))


def _write(
    arrays: Mapping[str, NDArray[Any]], module: nn.Module, batch: Batch, augment: Augment, seed: int, feed: Feed
) -> None:
    assert batch.passes is not None
    number, positions = int(batch.passes[0]), batch.positions.cpu().numpy()
    seeds_B = seeds_at(seed, batch.passes.numpy().astype("u8"), positions.astype("u8"))
    logits_BPC = _logits(module, augment(batch, seeds_B, feed))
    values, indices = logits_BPC.topk(arrays["values"].shape[-1], dim=-1)
    used = _used(batch, arrays["values"].shape[2], feed.data.padding.side)
    arrays["seeds"][number, positions] = seeds_B
    arrays["values"][number, positions, used] = values.cpu().numpy()
    arrays["indices"][number, positions, used] = indices.cpu().numpy()
    arrays["normalisers"][number, positions, used] = logits_BPC.double().logsumexp(-1).cpu().numpy()


def _logits(module: nn.Module, batch: Batch) -> Tensor:
    """Logits (B, P, C) in float32."""
    import torch

    with torch.no_grad():
        logits = by_position(output(module(**batch.inputs), "logits", "a stored teacher"))
    return logits.float() if logits.dim() == 3 else logits.float()[:, None]


def _open(folder: Path, spec: StoreSpec, mode: str) -> dict[str, np.memmap[Any, Any]]:
    import numpy as np

    opened: dict[str, np.memmap[Any, Any]] = {}
    for name, (shape, kind) in spec.arrays().items():
        path: Any = folder / f"{name}.npy"
        try:
            wanted: Any = {"dtype": np.dtype(kind), "shape": shape} if mode == "w+" else {}
            made = np.lib.format.open_memmap(path, mode, **wanted)
        except (OSError, ValueError) as problem:
            raise InputError(f"{path} cannot be read: {problem}", "make the store again with archtool teach") from None
        if made.shape != shape or made.dtype != np.dtype(kind):
            raise InputError(f"{path} holds {made.shape} {made.dtype}, not {shape} {kind}", "make the store again")
        opened[name] = made
    return opened


def _finish(folder: Path, spec: StoreSpec) -> None:
    """Write what makes the folder a store, with the digest of its arrays."""
    digest = hashlib.sha256()
    for name in spec.arrays():
        with (folder / f"{name}.npy").open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    with atomic_file(folder / FILE) as path:
        stated = {"format": 1, "digest": digest.hexdigest(), **asdict(spec)}
        path.write_text(json.dumps(stated, indent=1) + "\n", encoding="utf-8")


class StoredTeacher:
    """A store as a `Teacher`; its ``seeds`` replay the augmentation that the teacher saw."""

    def __init__(self, folder: Path) -> None:
        """Open a folder; `InputError` where it is no store, or damaged."""
        try:
            stated = json.loads((folder / FILE).read_text(encoding="utf-8"))
            self.identity: str = stated.pop("digest")
            stated.pop("format")
            self.spec = StoreSpec(**stated)
        except (OSError, ValueError, KeyError, TypeError) as problem:
            what = f"{folder} is no store of a teacher: {problem}"
            raise InputError(what, "archtool teach MODEL --data ... --out DIR writes DIR/teacher") from None
        self.arrays = _open(folder, self.spec, "r")

    def check(self, data: Data, augment: Augment, teacher: str = "") -> None:
        """`UsageError` where the store was made with other data, another augmentation, or another teacher."""
        made = {"data": self.spec.data, "augmentation": dict(self.spec.augment), "teacher": self.spec.teacher}
        mine = {"data": data.digest(), "augmentation": asdict(augment), "teacher": teacher or self.spec.teacher}
        different = [name for name in made if made[name] != mine[name]]
        if different:
            detail = f": {_said(made['augmentation'])}" if different == ["augmentation"] else ""
            what = f"the stored teacher was made with another {' and another '.join(different)}{detail}"
            raise UsageError(what, "use the same settings, or archtool teach again with these")

    def look_at(self, names: Iterable[str]) -> None:
        """A store has no inside."""
        if list(names):
            raise UsageError("stored outputs do not show the inside of a teacher", "give --teacher PATH")

    def seeds(self, batch: Batch) -> NDArray[Any]:
        """The seeds (B,) of the augmentation of these examples in these passes."""
        found: NDArray[Any] = self.arrays["seeds"][self._rows(batch)]
        return found

    def outputs(self, batch: Batch) -> Mapping[str, Tensor]:
        """``logits`` (B, P, C) or (B, C) whose softmax is the stored distribution."""
        import torch

        used, device = _used(batch, self.spec.positions, self.spec.side), next(iter(batch.inputs.values())).device
        rows = (*self._rows(batch), used)
        values, normalisers = (torch.from_numpy(self.arrays[n][rows]) for n in ("values", "normalisers"))
        indices = torch.from_numpy(self.arrays["indices"][rows].astype("i8"))
        logits_BPC = completed(values, indices, normalisers, self.spec.classes).to(device)
        return {"logits": logits_BPC if self.spec.positions > 1 else logits_BPC[:, 0]}

    def _rows(self, batch: Batch) -> tuple[Any, Any]:
        assert batch.passes is not None
        return batch.passes.numpy() % self.spec.passes, batch.positions.cpu().numpy()


def completed(values_BPK: Tensor, indices_BPK: Tensor, normalisers_BP: Tensor, classes: int) -> Tensor:
    """All logits (B, P, C): the kept ones, and for the others the logarithm of an even share of what they leave."""
    import torch

    others = classes - values_BPK.shape[-1]
    left_BP = (1 - (values_BPK.double() - normalisers_BP.double()[..., None]).exp().sum(-1)).clamp(min=1e-12)
    share_BP = normalisers_BP.double() + left_BP.log() - torch.tensor(float(max(1, others))).double().log()
    filled = share_BP.float()[..., None].expand(*share_BP.shape, classes)
    return filled.scatter(-1, indices_BPK, values_BPK)


def _said(augment: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in augment.items() if value) or "none"
