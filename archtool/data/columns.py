"""Columns of encoded examples, read by row so that nothing larger than a batch is made.

Shape legend: `N` examples, `T` time steps or tokens, `V` variables, `H`/`W`/`C` image axes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from archtool.errors import InputError

if TYPE_CHECKING:
    from hashlib import _Hash

    from numpy.typing import NDArray


class Column(Protocol):
    """Values of one name for N examples."""

    def __len__(self) -> int:
        """How many examples there are."""
        ...

    def take(self, rows: "NDArray[Any]") -> "list[NDArray[Any]]":
        """One array per row."""
        ...

    def lengths(self, rows: "NDArray[Any]") -> "NDArray[Any]":
        """First dimension of each row's array where rows differ in length, else zeros."""
        ...

    def feed(self, digest: "_Hash") -> None:
        """Add the content to a hash."""
        ...


@dataclass(frozen=True)
class Dense:
    """Rows of equal shape, in one array (N, ...)."""

    values: "NDArray[Any]"

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: "NDArray[Any]") -> "list[NDArray[Any]]":
        """One array per row."""
        return list(self.values[rows])

    def lengths(self, rows: "NDArray[Any]") -> "NDArray[Any]":
        """Zeros: rows do not differ."""
        return rows * 0

    def feed(self, digest: "_Hash") -> None:
        """Add dtype, shape and bytes."""
        feed_array(digest, self.values)


@dataclass(frozen=True)
class Ragged:
    """Rows of different length, end to end in ``flat``; row i is ``flat[offsets[i]:offsets[i + 1]]``."""

    flat: "NDArray[Any]"
    offsets: "NDArray[Any]"

    @staticmethod
    def of(rows: Sequence[Sequence[int]]) -> "Ragged":
        """From a list of integer lists."""
        import numpy as np

        offsets = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
        flat = np.fromiter((item for row in rows for item in row), dtype=np.int64, count=int(offsets[-1]))
        return Ragged(flat, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: "NDArray[Any]") -> "list[NDArray[Any]]":
        """One array per row."""
        return [self.flat[self.offsets[row] : self.offsets[row + 1]] for row in rows]

    def lengths(self, rows: "NDArray[Any]") -> "NDArray[Any]":
        """How long each row is."""
        lengths: NDArray[Any] = self.offsets[rows + 1] - self.offsets[rows]
        return lengths

    def feed(self, digest: "_Hash") -> None:
        """Add values and offsets."""
        feed_array(digest, self.flat)
        feed_array(digest, self.offsets)


@dataclass(frozen=True)
class Windows:
    """Overlapping windows ``series_TV[start : start + length]`` of one array."""

    series_TV: "NDArray[Any]"
    starts: "NDArray[Any]"
    length: int

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, rows: "NDArray[Any]") -> "list[NDArray[Any]]":
        """One array (length, V) per row."""
        return [self.series_TV[start : start + self.length] for start in self.starts[rows]]

    def lengths(self, rows: "NDArray[Any]") -> "NDArray[Any]":
        """Zeros: rows do not differ."""
        return rows * 0

    def feed(self, digest: "_Hash") -> None:
        """Add the series, the starts and the length."""
        feed_array(digest, self.series_TV)
        feed_array(digest, self.starts)
        digest.update(str(self.length).encode())


@dataclass(frozen=True)
class ImageFiles:
    """Images decoded by PIL when they are needed: (H, W) or (H, W, 3) uint8 each.

    Each item is a path, or the bytes of an encoded image.
    """

    items: Sequence[Path | bytes]

    def __len__(self) -> int:
        return len(self.items)

    def take(self, rows: "NDArray[Any]") -> "list[NDArray[Any]]":
        """One array per row."""
        return [_decode(self.items[int(row)], int(row)) for row in rows]

    def lengths(self, rows: "NDArray[Any]") -> "NDArray[Any]":
        """Zeros: images are made equal by preprocessing."""
        return rows * 0

    def feed(self, digest: "_Hash") -> None:
        """Add the encoded bytes."""
        for item in self.items:
            digest.update(item if isinstance(item, bytes) else item.read_bytes())


@dataclass(frozen=True)
class Mapped:
    """Another column with a function applied to each row when it is read."""

    source: Column
    function: "Callable[[NDArray[Any]], NDArray[Any]]"

    def __len__(self) -> int:
        return len(self.source)

    def take(self, rows: "NDArray[Any]") -> "list[NDArray[Any]]":
        """One array per row."""
        return [self.function(row) for row in self.source.take(rows)]

    def lengths(self, rows: "NDArray[Any]") -> "NDArray[Any]":
        """Zeros: the function makes rows equal."""
        return rows * 0

    def feed(self, digest: "_Hash") -> None:
        """Add the source's content (the function is stated in the spec)."""
        self.source.feed(digest)


def feed_array(digest: "_Hash", values: "NDArray[Any]") -> None:
    """Add an array's dtype, shape and bytes to a hash."""
    import numpy as np

    digest.update(f"{values.dtype.str}{values.shape}".encode())
    digest.update(np.ascontiguousarray(values).tobytes())


def _decode(item: Path | bytes, row: int) -> "NDArray[Any]":
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    name = f"image {row + 1}" if isinstance(item, bytes) else str(item)
    try:
        with Image.open(BytesIO(item) if isinstance(item, bytes) else item) as image:
            if image.mode.startswith("I"):  # 16 bits a pixel
                return np.asarray(image, dtype=np.float32) / 257
            return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{name}: not a readable image ({error})", "remove or replace the file") from error
