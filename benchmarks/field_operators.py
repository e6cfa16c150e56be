"""Takes a model with each operator and each construct through prune, int8, extract, export and reload.

The models are the operators' own samples. Each step is the generic code that the command line runs: magnitude
pruning of all widths to 0.8 of the parameters, round-to-nearest int8, prefixes, the remote dialect (run in a fresh
process without archtool), the native dialect, and ONNX. A claim's value is the number of steps that failed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import ROOT, arguments, emit

sys.path.insert(0, str(ROOT))
TOLERANCE = 1e-5
ONNX_TOLERANCE = 1e-4


def main() -> None:
    """Every registered kind, in order; all reloads happen in one fresh process at the end."""
    import torch

    from archtool.builtins import CONSTRUCTS, OPERATORS
    from archtool.registry import load

    parser = arguments(__doc__)
    parser.add_argument("--only", metavar="KIND", nargs="*", help="these operators and constructs alone")
    asked = parser.parse_args().only
    torch.set_num_threads(1)
    tables = (("operators", OPERATORS), ("constructs", CONSTRUCTS))
    bringers = {k: load(group, k) for group, table in tables for k in table if not asked or k in asked}
    with tempfile.TemporaryDirectory() as scratch:
        found: dict[str, list[Steps]] = {}
        for kind, bringer in bringers.items():
            print(kind, file=sys.stderr)
            found[kind] = [journey(a, Path(scratch) / f"{kind}-{i}") for i, a in enumerate(bringer.samples())]
        reload_all([steps for each in found.values() for steps in each])
    for kind, each in found.items():
        worst = {step: max((steps.said[step] for steps in each), key=_badness) for step in ORDER}
        failed = sum(said.startswith("no:") for step, said in worst.items() if step != "onnx")
        emit(f"field.operator.{kind}", failed, note="; ".join(f"{k} {v}" for k, v in worst.items()))


ORDER = ("prune", "extract", "int8", "export", "native", "onnx")


@dataclass
class Steps:
    """What one sample went through: step → ``ok`` with its figure, or ``no:`` and the reason; folders to reload."""

    said: dict[str, str] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)


def _badness(text: str) -> tuple[bool, float]:
    word = text.split()[-1].removesuffix("kB")
    return text.startswith("no:"), float(word) if word.replace(".", "").replace("e-", "").isdigit() else 0.0


def journey(arch: Any, folder: Path) -> Steps:
    """One sample through every step; a step that fails leaves the model as it was."""
    from archtool.ir.encodings import Affine
    from archtool.model.apply import apply
    from archtool.transforms.prune.criteria.magnitude import scores
    from archtool.transforms.quantize.rtn import rtn_edit
    from archtool.transforms.units import joined
    from archtool.transforms.widths import ranked

    checkpoint, steps, axes = perturbed(arch), Steps(), widths(arch)
    order = ranked(joined(arch, scores(checkpoint, axes)))
    small = tried(steps, "prune", lambda: narrowed(checkpoint, order)) or checkpoint
    prefix = {axis: list(range(arch.size[axis])) for axis in axes}
    tried(steps, "extract", lambda: narrowed(checkpoint, prefix))
    coded = tried(steps, "int8", lambda: apply(small, rtn_edit(small.architecture, Affine(8)))) or small
    for name, dialect in (("export", "remote"), ("native", "native")):
        written(steps, name, coded, folder / name, dialect)
    steps.said["onnx"] = in_onnx(small, folder)
    return steps


def perturbed(arch: Any) -> Any:
    """A checkpoint with every tensor moved off its initial value."""
    import torch

    from archtool.model.build import build
    from archtool.model.checkpoint import of_module

    model, generator = build(arch, 0, std=0.3), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.1)
    return of_module(model.eval())


def widths(arch: Any) -> tuple[str, ...]:
    """All axes that the generic code may make narrower."""
    from archtool.transforms.units import KINDS, WIDTH, unit_axes

    return unit_axes(arch, (*KINDS, WIDTH))


def narrowed(checkpoint: Any, order: dict[str, list[int]]) -> Any:
    """The checkpoint at 0.8 of its parameters, by an order of its units; says how small it is in fact."""
    from archtool.budget.language import parse_budget
    from archtool.model.apply import apply
    from archtool.model.costs import costs
    from archtool.transforms.widths import largest_fraction

    before = costs(checkpoint)
    limit = parse_budget("params=0.8x").resolve(before)
    arch = checkpoint.architecture
    edit = largest_fraction(arch, order, limit, lambda e: costs(apply(checkpoint, e)), "benchmark")
    made = apply(checkpoint, edit)
    after = sum(p.numel() for p in made.module().parameters())
    assert after == costs(made)["parameters"] < before["parameters"]
    return made


def tried(steps: Steps, name: str, make: Any) -> Any:
    """Run a step and note how it went."""
    from archtool.errors import ArchtoolError
    from archtool.model.costs import stored_bytes

    try:
        made = make()
    except (ArchtoolError, AssertionError, RuntimeError, TypeError, ValueError) as why:
        steps.said[name] = f"no: {str(why).splitlines()[0] if str(why) else type(why).__name__}"
        return None
    steps.said[name] = f"ok {stored_bytes(made) / 1000:.2f} kB"
    return made


def written(steps: Steps, name: str, checkpoint: Any, folder: Path, dialect: str) -> None:
    """Export, and keep what the model in memory computes beside it."""
    from archtool.errors import ArchtoolError
    from archtool.export.model import export_model
    from archtool.export.verify import record

    folder.mkdir(parents=True)
    try:
        record(checkpoint, export_model(checkpoint, folder / "model", dialect), folder)
        steps.folders[name] = folder
    except (ArchtoolError, RuntimeError, TypeError, ValueError) as why:
        steps.said[name] = f"no: {str(why).splitlines()[0]}"


def reload_all(journeys: list[Steps]) -> None:
    """Load everything that was written in fresh processes and compare."""
    from archtool.export.verify import verify_all

    checked = verify_all([folder for steps in journeys for folder in steps.folders.values()])
    for steps in journeys:
        for name, folder in steps.folders.items():
            (found,) = checked[folder]
            worst = f"{found.max_abs_diff:.1e}"
            steps.said[name] = f"ok {worst}" if found.passed else f"no: {found.error or f'differs by {worst}'}"


def in_onnx(checkpoint: Any, folder: Path) -> str:
    """ONNX Runtime's answer against the module's, at another batch size than the graph was traced with."""
    import onnxruntime
    import torch

    from archtool.errors import ArchtoolError
    from archtool.export.model import write_onnx
    from archtool.measure.inputs import example_inputs

    path = folder / "model.onnx"
    try:
        write_onnx(checkpoint, path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        feed = example_inputs(checkpoint.architecture, 3, 12)
        taken = {item.name for item in session.get_inputs()}
        inputs = {k: v for k, v in feed.items() if k in taken}
        inputs |= {k: torch.ones_like(feed["input_ids"]) for k in taken - set(inputs) if "input_ids" in feed}
        got = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        with torch.inference_mode():
            expected = checkpoint.module()(**inputs)
        worst = max(_gap(expected, got))
        return f"ok {worst:.1e}" if worst <= ONNX_TOLERANCE else f"no: differs by {worst:.1e}"
    except (ArchtoolError, RuntimeError, TypeError, ValueError) as why:
        return f"no: {str(why).splitlines()[0]}"


def _gap(expected: dict[str, Any], got: list[Any]) -> Iterator[float]:
    import torch

    for value, other in zip(expected.values(), got, strict=True):
        yield float((value - torch.from_numpy(other)).abs().max() / value.abs().max().clamp_min(1.0))


if __name__ == "__main__":
    main()
