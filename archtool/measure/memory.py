"""Peak memory of loading and running a model, measured in a process of its own.

The high-water mark of resident memory counts whatever a runtime allocates: packed weights, workspaces and
activations. It is taken from a fresh process after its imports, so that only the model is counted.
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from archtool.errors import InputError, ResourceError

if TYPE_CHECKING:
    from torch import Tensor, nn

_JOB, _RESULT = "job.json", "result.json"
_CHILD = "import sys; from archtool.measure.memory import run_job; run_job(sys.argv[1])"
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class PeakMemory:
    """Resident memory beyond that of the runtime with nothing loaded.

    Args:
        loaded_bytes: with the model loaded, before its first run.
        peak_memory_bytes: the highest during loading and running.
    """

    loaded_bytes: int
    peak_memory_bytes: int


def measure_peak_memory(
    model: "nn.Module | Path",
    inputs: "Mapping[str, Tensor]",
    *,
    runtime: str = "onnxruntime",
    threads: int = 1,
    dtype: str = "fp32",
) -> PeakMemory:
    """Load and run ``model`` in a fresh process and read its high-water mark.

    Args:
        model: a module of an importable class, or an ONNX file.
        inputs: one set of inputs.
        runtime: a registered runtime's name.
        threads: threads of the arithmetic.
        dtype: what to compute in.

    Raises:
        InputError: the module cannot be handed to another process or exported.
        ResourceError: the process failed (for instance for lack of memory).
    """
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory(prefix="archtool-memory-") as folder:
        path = _hand_over(model, inputs, runtime, Path(folder))
        save_file({name: value.contiguous() for name, value in inputs.items()}, Path(folder) / "inputs")
        job = {"model": str(path.resolve()), "runtime": runtime, "threads": threads, "dtype": dtype}
        (Path(folder) / _JOB).write_text(json.dumps(job | {"order": list(inputs)}))
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path),
        }
        command = [sys.executable, "-c", _CHILD, folder]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise ResourceError(f"the process that measures memory failed: {lines[-1]}")
        return PeakMemory(**json.loads((Path(folder) / _RESULT).read_text()))


def _hand_over(model: "nn.Module | Path", inputs: "Mapping[str, Tensor]", runtime: str, folder: Path) -> Path:
    """The file that the other process loads: a graph for the ONNX runtimes, else the pickled module."""
    if isinstance(model, Path):
        return model
    if not runtime.startswith("torch"):
        from archtool.export.onnx import default_dynamic, export_onnx

        return export_onnx(model, inputs, folder / "model.onnx", dynamic=default_dynamic(inputs))
    import pickle

    import torch

    try:
        torch.save(model, folder / "model.pt")
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(f"{type(model).__name__} cannot be handed to another process: {error}") from error
    return folder / "model.pt"


def run_job(folder: str) -> None:
    """What the fresh process does: load, run, write down its memory."""
    import torch
    from safetensors.torch import load_file

    from archtool.measure.runtimes import get_runtime

    job = json.loads((Path(folder) / _JOB).read_text())
    inputs = load_file(Path(folder) / "inputs")
    inputs = {name: inputs[name] for name in job["order"]}
    engine, path = get_runtime(job["runtime"]), Path(job["model"])
    torch.set_num_threads(job["threads"])
    _ = engine.version  # imports the runtime
    base_bytes = _reset_high_water()
    model = torch.load(path, weights_only=False) if path.suffix == ".pt" else path
    session = engine.prepare(model, inputs, job["threads"], job["dtype"])
    loaded_bytes = _read_status("VmRSS") - base_bytes
    session.run(inputs)
    result = PeakMemory(loaded_bytes, _read_status("VmHWM") - base_bytes)
    (Path(folder) / _RESULT).write_text(json.dumps(asdict(result)))


def _reset_high_water() -> int:
    """Resident bytes now; the kernel's high-water mark starts again from here where it can be reset."""
    if _CLEAR.exists() and os.access(_CLEAR, os.W_OK):
        _CLEAR.write_text("5")
    return _read_status("VmRSS")


def _read_status(field: str) -> int:
    """Bytes of ``VmRSS`` or ``VmHWM``; elsewhere than Linux, the peak of the process stands for both."""
    if not _STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = re.search(rf"^{field}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise ResourceError(f"the system does not report {field}")
    return int(found.group(1)) * 1024
