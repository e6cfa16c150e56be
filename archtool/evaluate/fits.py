"""Whether a batch fits a model: ids within the vocabulary, lengths within the positions, pixels as the stem wants.

Without this, an index that is too large ends deep inside a kernel, or, on a GPU, nowhere near its cause.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from archtool.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


def check_inputs(architecture: "Architecture", inputs: "Mapping[str, Tensor]") -> None:
    """`InputError` where a batch does not fit; names both sizes."""
    for name in inputs:
        if name.endswith("input_ids"):
            _check_ids(architecture, inputs[name], _words(architecture, name))
    if "pixel_values" in inputs:
        _check_pixels(architecture, inputs["pixel_values"])
    if "past_values" in inputs and "past_values" in architecture.inputs:
        _check_series(architecture, inputs["past_values"])


def _words(architecture: "Architecture", name: str) -> int | None:
    """Entries of the vocabulary that an input of ids has."""
    from archtool.ir.feeds import feeds

    feed = feeds(architecture).get(name)
    return feed.below if feed else None


def _check_ids(architecture: "Architecture", ids_BT: "Tensor", vocab: int | None) -> None:
    if vocab is not None and ids_BT.numel() and not 0 <= int(ids_BT.min()) <= int(ids_BT.max()) < vocab:
        worst = int(ids_BT.max()) if int(ids_BT.max()) >= vocab else int(ids_BT.min())
        raise InputError(
            f"the data holds token {worst}; the model's vocabulary has {vocab} entries",
            "Use the model's own tokenizer (data.preprocess.tokenizer: model).",
        )
    tables = "positions" in architecture.size or any(getattr(p.layer.op, "sinusoid", 0) for p in architecture.places)
    longest = int(architecture.fact.get("max_positions", 0)) if tables else 0
    if longest and ids_BT.shape[1] > longest:
        raise InputError(
            f"the data has {ids_BT.shape[1]} tokens in one sequence; the model has {longest} positions",
            f"Cut it: --set data.preprocess.length={longest} (for sentences: max_length).",
        )


def _check_pixels(architecture: "Architecture", pixels_BCHW: "Tensor") -> None:
    fact, given = architecture.fact, tuple(pixels_BCHW.shape[1:])
    stated = (architecture.size.get("channels"), fact.get("image_height"), fact.get("image_width"))
    wanted = tuple(given[i] if n is None else int(n) for i, n in enumerate(stated))
    if wanted != given:
        raise InputError(
            f"the data's images are {' x '.join(map(str, given))} (channels, height, width); "
            f"the model takes {' x '.join(map(str, wanted))}",
            f"--set data.task=image-classification --set data.preprocess.channels={wanted[0]} "
            f"--set 'data.preprocess.size=[{wanted[1]}, {wanted[2]}]'",
        )


def _check_series(architecture: "Architecture", past_BTV: "Tensor") -> None:
    from archtool.ir.feeds import feeds, sample_shape

    given = tuple(past_BTV.shape[1:])
    wanted = sample_shape(architecture, feeds(architecture)["past_values"], given[0])
    if wanted != given:
        raise InputError(
            f"a series of the data has {given[0]} rows and {given[1]} variables; the model takes {wanted[0]} and "
            f"{wanted[1]}",
            f"--set data.preprocess.length={wanted[0]}; choose the variables with --columns value1=A,value2=B.",
        )
