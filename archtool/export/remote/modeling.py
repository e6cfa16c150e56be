"""The text of ``modeling_archtool.py`` for an architecture: the runtime, and the maths of its operators."""

from __future__ import annotations

from functools import cache

from archtool.export.remote.bundle import Bundle
from archtool.ir.architecture import Architecture
from archtool.ir.encodings import Dense, Encoding, EncodingPlan
from archtool.ir.operator import Operator

FILE_NAME = "modeling_archtool.py"
RUNTIME = "archtool.export.remote.runtime"
HEADER = '''"""This model as a transformers class; needs torch and transformers only. Written by archtool.

Load it with `AutoModel....from_pretrained(folder, trust_remote_code=True)`. What the layers are is in the
`archtool` section of config.json; this file is the same for every model with the same kinds of operators.

Shapes: `B` batch, `T` tokens, `D` width, `H` heads, `K` head dimension, `V` vocabulary.
"""

from __future__ import annotations

'''


def modeling_file(arch: Architecture, plan: EncodingPlan) -> str:
    """The file's text; it depends on the kinds of operators and encodings only."""
    operators = {p.layer.op.kind: type(p.layer.op) for p in arch.places if p.layer.op}
    encodings = {type(e).kind: type(e) for _, e in plan.entries if not isinstance(e, Dense)}
    return _modeling_file(tuple(sorted(operators.items())), tuple(sorted(encodings.items())))


@cache
def _modeling_file(
    operators: tuple[tuple[str, type[Operator]], ...], encodings: tuple[tuple[str, type[Encoding]], ...]
) -> str:
    bundle = Bundle(whole=frozenset({RUNTIME}))
    for name in bundle.source(RUNTIME).definitions:
        bundle.need(RUNTIME, name)
    made = {kind: bundle.operator(cls, "Spec") for kind, cls in operators}
    decoders = {kind: _decoder(bundle, kind, cls) for kind, cls in encodings}
    return bundle.text(HEADER, _table("OPERATORS", made) + _table("DECODERS", decoders))


def _decoder(bundle: Bundle, kind: str, encoding: type[Encoding]) -> str:
    from archtool.model.codec import decode

    name = f"decode_{kind}"
    bundle.function(decode.dispatch(encoding), name)
    return name


def _table(name: str, entries: dict[str, str]) -> str:
    return "".join(f'{name}["{key}"] = {value}\n' for key, value in entries.items())
