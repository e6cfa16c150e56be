"""Exporting a checkpoint: choose the dialect, write the folder whole, say what was refused and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from archtool.checkpoint.atomic import atomic_dir
from archtool.checkpoint.writer import WrittenFile
from archtool.export.base import DialectRefused, Form
from archtool.export.dialects import AUTO, dialect
from archtool.model.checkpoint import Checkpoint
from archtool.model.save import save
from archtool.progress import SILENT, Progress

ONNX_NAME = "model.onnx"


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        dialect: the dialect's name.
        folder: where it is.
        files: names of all files, sorted.
        weights: weight files with size and SHA-256.
        reasons: (dialect, reason) for each dialect that was tried before and refused.
        notes: what the user should know.
    """

    dialect: str
    folder: Path
    files: tuple[str, ...]
    weights: dict[str, WrittenFile]
    reasons: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of the weight files."""
        return sum(file.size_bytes for file in self.weights.values())


def export_model(
    checkpoint: Checkpoint,
    folder: Path,
    dialect: str = "auto",
    *,
    onnx: bool = False,
    finite: bool = True,
    force: bool = False,
    progress: Progress = SILENT,
) -> Exported:
    """Write a checkpoint so that other programs load it.

    Args:
        folder: the folder to make; it appears whole or not at all.
        dialect: ``"auto"`` takes the first exact one of stock, sibling and remote.
        onnx: also write ``model.onnx`` with dynamic batch and length.
        finite: refuse NaN and infinite weights, by name.
        force: replace a folder that is not empty.

    Raises:
        DialectRefused: the dialect that was asked for cannot say this model exactly.
    """
    name, made, reasons = chosen(checkpoint, dialect)
    with atomic_dir(folder, force) as temporary:
        weights = save(
            made.checkpoint,
            temporary,
            config=made.config,
            native=made.native,
            finite=finite,
            progress=progress,
        )
        for file, text in made.code:
            (temporary / file).write_text(text, encoding="utf-8")
        if onnx:
            write_onnx(checkpoint, temporary / ONNX_NAME)
        files = tuple(sorted(p.relative_to(temporary).as_posix() for p in temporary.rglob("*") if p.is_file()))
    return Exported(name, folder, files, weights, reasons, made.notes)


def chosen(checkpoint: Checkpoint, name: str = "auto") -> tuple[str, Form, tuple[tuple[str, str], ...]]:
    """The dialect that will be written, its form, and why those before it were refused; writes nothing."""
    if name != "auto":
        return name, dialect(name)(checkpoint), ()
    reasons: list[tuple[str, str]] = []
    for candidate in AUTO:
        try:
            return candidate, dialect(candidate)(checkpoint), tuple(reasons)
        except DialectRefused as refused:
            reasons.append((candidate, refused.what))
    raise DialectRefused("; ".join(f"{who}: {why}" for who, why in reasons))


def write_onnx(checkpoint: Checkpoint, path: Path) -> None:
    """The model as an ONNX graph with dynamic batch and length."""
    from archtool.export.onnx import default_dynamic, export_onnx
    from archtool.export.reference import reference_inputs

    inputs = reference_inputs(checkpoint.architecture, seed=0)
    export_onnx(checkpoint.module(), inputs, path, dynamic=default_dynamic(inputs))
