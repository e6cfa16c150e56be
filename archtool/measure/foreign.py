"""Example inputs and costs of modules that no family describes.

Inputs are said as ``1x3x32x32`` (fp32, positional), ``int64:1x16``, ``input_ids:int64<1000:1x16`` (by name, below
1000), several separated by commas, or ``FILE.py:FUNCTION``, which returns a tensor, a tuple of them or a dictionary.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archtool.errors import InputError, UsageError
from archtool.measure.count import count_macs, count_parameters
from archtool.model.foreign import called, serialised
from archtool.model.user_code import beside, load_function, told

if TYPE_CHECKING:
    from torch import Tensor, nn

FORM = "write 1x3x32x32, input_ids:int64<1000:1x16, or FILE.py:FUNCTION"
DTYPES = ("float32", "float64", "bfloat16", "float16", "int64", "int32", "bool")
_WORD = re.compile(
    rf"(?:(?P<name>[A-Za-z_]\w*):)??(?:(?P<dtype>{'|'.join(DTYPES)})(?:<(?P<below>\d+))?:)?(?P<shape>\d+(?:x\d+)*)"
)


def example_inputs(words: Sequence[str], seed: int = 0) -> dict[str, Tensor]:
    """Inputs by name; positional ones are called ``"0"``, ``"1"``, ...

    Raises:
        UsageError: a word that is none of the forms.
        InputError: the function fails, or returns something else.
    """
    import torch

    if not words:
        raise UsageError("a module needs an example of its input", f"Give --example-input: {FORM}.")
    if len(words) == 1 and ".py:" in words[0]:
        path, function = load_function(words[0], "example input", FORM)
        with beside(path), told(path, "example input"):
            return _by_name(function(), words[0])
    generator, found = torch.Generator().manual_seed(seed), dict[str, Any]()
    for place, word in enumerate(words):
        name, value = _made(word, generator)
        found[name or str(place)] = value
    return found


def _made(word: str, generator: Any) -> tuple[str, Any]:
    import torch

    match = _WORD.fullmatch(word.strip())
    if match is None:
        raise UsageError(f"--example-input {word!r} is no shape", f"{FORM}; types are {', '.join(DTYPES)}")
    shape, dtype = tuple(map(int, match["shape"].split("x"))), getattr(torch, match["dtype"] or "float32")
    if dtype.is_floating_point:
        return match["name"] or "", torch.randn(shape, generator=generator).to(dtype)
    return match["name"] or "", torch.randint(0, int(match["below"] or 2), shape, generator=generator).to(dtype)


def _by_name(value: Any, said: str) -> dict[str, Any]:
    import torch

    items = (
        dict(value) if isinstance(value, Mapping) else dict(enumerate(value if isinstance(value, tuple) else [value]))
    )
    if not items or not all(isinstance(item, torch.Tensor) for item in items.values()):
        raise InputError(f"{said} returned {type(value).__name__}, not tensors", FORM)
    return {str(key): item for key, item in items.items()}


def costs(module: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, float]:
    """``parameters``, ``macs`` of one call on the inputs, ``size_bytes`` of the weight file and ``bits``."""
    parameters = count_parameters(module)
    stored = sum(value.numel() * value.element_size() for value in module.parameters())
    return {
        "parameters": parameters, "macs": count_macs(called(module), inputs),
        "size_bytes": len(serialised(module)), "bits": 8 * stored / max(1, parameters),
    }  # fmt: skip
