"""The run directory: where each file of a run lies, who may write it, and when it may be replaced."""

import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archtool.errors import ResourceError, UsageError
from archtool.run.fingerprint import differing
from archtool.run.journal import Journal

OWN_FILES = (
    "recipe.lock.yaml", "provenance.json", "journal.jsonl", "edit.json", "edit.safetensors",
    "result.json", "metrics.json", "report.html", "report.csv", "report.json", "model", "teacher", ".work",
    "front.csv", "front.json", "front",
)  # fmt: skip
"""What ``--force`` may delete from a run directory; anything else there is the user's."""


@dataclass(frozen=True)
class RunDir:
    """The files of one run under ``path``."""

    path: Path

    @property
    def lock(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.lock.yaml"

    @property
    def provenance(self) -> Path:
        """Where everything came from."""
        return self.path / "provenance.json"

    @property
    def result(self) -> Path:
        """The results."""
        return self.path / "result.json"

    @property
    def model(self) -> Path:
        """The finished model."""
        return self.path / "model"

    @property
    def work(self) -> Path:
        """Unfinished work, deleted when the run is done."""
        return self.path / ".work"

    @property
    def journal(self) -> Journal:
        """The finished units of work."""
        return Journal(self.path / "journal.jsonl")

    def create(self) -> None:
        """Make the folder; raises `ResourceError` where that is impossible."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as problem:
            what = f"the output {self.path} cannot be a folder: a file is in the way"
            raise ResourceError(what, "give another folder with --out") from problem
        except OSError as problem:
            what = f"cannot make the output folder {self.path}: {problem.strerror}"
            raise ResourceError(what, "give a folder you may write to with --out") from problem

    def is_foreign(self) -> bool:
        """Whether the folder holds something and is not a run directory."""
        names = {entry.name for entry in self.path.iterdir()} - {".lock", _partial(self.lock).name}
        return bool(names) and self.lock.name not in names

    def clear(self) -> None:
        """Delete what a run wrote; files that are not the run's stay."""
        for target in (place for name in OWN_FILES for place in (self.path / name, _partial(self.path / name))):
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)

    def finish(self, keep_work: bool) -> None:
        """Delete the unfinished work of a run that is done."""
        if not keep_work:
            shutil.rmtree(self.work, ignore_errors=True)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Make the folder and be the only process that writes there; a dead process' lock is taken over.

        Folders that this made and that nothing was put into are removed at the end.

        Raises:
            ResourceError: another process holds the lock; the message names it.
        """
        made = _missing(self.path)
        self.create()
        descriptor = _acquire(self.path / ".lock")
        try:
            yield
        finally:
            (self.path / ".lock").unlink(missing_ok=True)
            os.close(descriptor)
            _remove_empty(made)


def _missing(path: Path) -> list[Path]:
    """``path`` and its parents that do not exist, innermost first."""
    return [place for place in (path, *path.parents) if not place.exists()]


def _remove_empty(made: list[Path]) -> None:
    for place in made:
        try:
            place.rmdir()
        except OSError:  # something was put into it
            return


def _acquire(path: Path) -> int:
    """Lock the file with the kernel's help (it lets go when a process dies) and write our id into it."""
    import fcntl

    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            owner = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            what = f"{path.parent} is being written by {owner}"
            raise ResourceError(what, "wait for it, end it, or give another folder with --out") from problem
        if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            return descriptor
        os.close(descriptor)  # its owner removed the file between our open and our lock: try again


def default_folder(verbs: tuple[str, ...], label: str, fingerprint: str) -> Path:
    """``runs/<verb>-<model>-<hash>``."""
    verb = verbs[0] if len(verbs) == 1 else "run"
    safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in label)
    return Path("runs") / f"{verb}-{safe}-{fingerprint[:8]}"


def _partial(path: Path) -> Path:
    """Where a file is while it is being written; a crash may leave it."""
    return path.with_name(path.name + ".tmp")


def write_json(path: Path, data: Any) -> None:
    """Write JSON so that a crash leaves either the old file or the new one."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a crash leaves either the old file or the new one."""
    temporary = _partial(path)
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def check_for(
    folder: RunDir, mine: Mapping[str, str], there: Mapping[str, str] | None, resume: bool, force: bool
) -> bool:
    """Whether the folder holds work to continue for a run with the keys ``mine``; ``there`` are those in it.

    Raises:
        UsageError: the folder holds something else, or a run that differs (the keys are named).
    """
    if folder.is_foreign():
        what = f"{folder.path} is not empty and not a run of archtool"
        raise UsageError(what, "give another folder with --out; --force replaces only archtool's own runs")
    started = bool(folder.journal.read())
    different = differing(mine, there) if there is not None and started else []
    if different and not force:
        hint = "--force replaces that run; --out keeps both"
        raise UsageError(f"{folder.path} holds a different run; it differs in {'; '.join(different)}", hint)
    return started and resume and not force and not different
