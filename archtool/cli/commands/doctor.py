"""``archtool doctor``: installation and machine, short enough to paste into a report."""

import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires
from typing import Any

from archtool.cli.commands.plugins import plugin_rows
from archtool.cli.flags import Json, examples, new_app
from archtool.cli.output import emit, emit_json
from archtool.cli.runner import size_text
from archtool.run.provenance import machine, versions

app = new_app()


@app.command("doctor", epilog=examples("archtool doctor", "archtool doctor --json"))
def doctor(json: Json = False) -> None:
    """Describe this installation and machine, for a bug report."""
    found = diagnosis()
    if json:
        emit_json(found)
        return
    for section, values in found.items():
        emit(f"{section}:")
        for name, value in values.items():
            emit(f"  {name}: {value}")


def diagnosis() -> dict[str, dict[str, Any]]:
    """Everything that ``doctor`` shows."""
    here = machine()
    disk = shutil.disk_usage(".")
    here["memory"] = size_text(here.pop("memory_bytes"))
    here["disk free"] = f"{size_text(disk.free)} of {size_text(disk.total)}"
    broken = {f"{row['kind']}/{row['name']}": row["error"] for row in plugin_rows(builtins=True) if row["error"]}
    return {
        "archtool": {"version": _own_version(), "python": sys.version.split()[0]},
        "machine": here | devices(),
        "packages": versions(),
        "missing packages": missing(),
        "broken plugins": broken,
    }


def devices() -> dict[str, Any]:
    """What torch can compute on; the error where torch itself does not load."""
    try:
        import torch
    except Exception as problem:  # whatever a broken installation raises is the finding itself
        return {"torch": f"does not load: {type(problem).__name__}: {problem}"}
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"devices": ", ".join(["cpu", *cuda]), "threads": torch.get_num_threads()}


def missing() -> dict[str, str]:
    """Required and optional packages that are not installed → the extra that brings them."""
    try:
        wanted = requires("archtool") or []
    except PackageNotFoundError:
        return {"archtool": "not installed: running from a source folder"}
    there = {name.lower().replace("_", "-") for name in versions()}
    found = {}
    for line in wanted:
        name = line.split(";")[0].split("[")[0].strip()
        name = name.rstrip("0123456789.,<>=!~ ").lower()
        extra = line.partition("extra ==")[2].strip(" '\"")
        if name in _tracked() and name not in there:
            found[name] = f"pip install 'archtool[{extra}]'" if extra else "required"
    return found


def _tracked() -> set[str]:
    from archtool.run.provenance import PACKAGES

    return {name.lower() for name in PACKAGES}


def _own_version() -> str:
    from archtool import __version__

    return __version__
