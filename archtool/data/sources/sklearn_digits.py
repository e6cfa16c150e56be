"""``sklearn:digits``: 1797 real scans of digits, 8 x 8, that travel with scikit-learn (no network)."""

from pathlib import Path

from archtool.data.columns import Dense
from archtool.data.raw import Images
from archtool.errors import UsageError


def read_digits(source: str) -> Images:
    """The digits; grey levels 0..16 are brought to 0..255."""
    import numpy as np
    from sklearn.datasets import load_digits

    if source != "sklearn:digits":
        raise UsageError(f"no built-in data set {source!r}", "the built-in one is sklearn:digits")
    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    names = tuple(str(name) for name in digits.target_names)
    return Images(Path(source), Dense(pixels), digits.target.astype(np.int64), names)
