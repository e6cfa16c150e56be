"""The text of ``modeling_archtool.py`` for an architecture: the runtime, and the maths of its operators."""

from __future__ import annotations

from functools import cache

from archtool.export.remote.bundle import Bundle
from archtool.ir.architecture import Architecture
from archtool.ir.encodings import Dense, Encoding, EncodingPlan
from archtool.ir.operator import Operator
from archtool.ir.parts import Constant

FILE_NAME = "modeling_archtool.py"
RUNTIME = "archtool.export.remote.runtime"
SEQ2SEQ = "archtool.export.remote.seq2seq"
HEADER = '''"""This model as a transformers class; needs torch and transformers only. Written by archtool.

Load it with `AutoModel....from_pretrained(folder, trust_remote_code=True)`. What the layers are is in the
`archtool` section of config.json; this file is the same for every model with the same kinds of operators.

Shapes: `B` batch, `T` tokens, `D` width, `H` heads, `K` head dimension, `V` vocabulary.
"""

from __future__ import annotations

'''


def modeling_file(arch: Architecture, plan: EncodingPlan) -> str:
    """The file's text; it depends on the kinds of operators, encodings, constants and inputs only."""
    operators = {p.layer.op.kind: type(p.layer.op) for p in arch.places if p.layer.op}
    encodings = {type(e).kind: type(e) for _, e in plan.entries if not isinstance(e, Dense)}
    constants = (part.source for p in arch.places for part in p.parts if isinstance(part, Constant))
    sources = {source.kind: type(source) for source in constants if hasattr(source, "kind")}
    tables = (tuple(sorted(table.items())) for table in (operators, encodings, sources))
    return _modeling_file(*tables, len(arch.inputs) > 1)


@cache
def _modeling_file(
    operators: tuple[tuple[str, type[Operator]], ...], encodings: tuple[tuple[str, type[Encoding]], ...],
    sources: tuple[tuple[str, type], ...] = (), memory: bool = False,
) -> str:  # fmt: skip
    modules = (RUNTIME, SEQ2SEQ) if memory else (RUNTIME,)
    bundle = Bundle(whole=frozenset(modules))
    for module in modules:
        for name in bundle.source(module).definitions:
            bundle.need(module, name)
    made = {kind: bundle.operator(cls, "Spec") for kind, cls in operators}
    formulas = {kind: bundle.operator(cls, "Spec", ("values",)) for kind, cls in sources}
    decoders = {kind: _decoder(bundle, kind, cls) for kind, cls in encodings}
    tables = {"OPERATORS": made, "FORMULAS": formulas, "DECODERS": decoders}
    return bundle.text(HEADER, "".join(_table(name, entries) for name, entries in tables.items()))


def _decoder(bundle: Bundle, kind: str, encoding: type[Encoding]) -> str:
    from archtool.model.codec import decode

    name = f"decode_{kind}"
    bundle.function(decode.dispatch(encoding), name)
    return name


def _table(name: str, entries: dict[str, str]) -> str:
    return "".join(f'{name}["{key}"] = {value}\n' for key, value in entries.items())
