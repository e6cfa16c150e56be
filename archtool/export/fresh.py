"""Runs in a fresh process without archtool: loads exported models and runs them on recorded inputs.

    python -I fresh.py JOBS.json

Each job names a folder, a runtime, a file of inputs and a file for the outputs. Only torch, transformers,
safetensors and onnxruntime are imported; importing archtool is an error in this process (the native runtime,
which needs it, apart). A job's outcome, with any error, goes to its ``report`` file.
"""

import json
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

NAMES = {
    "last_hidden_state": "hidden", "pooler_output": "pooled", "prediction_outputs": "forecast",
    "prediction_logits": "logits", "regression_outputs": "logits",
}  # fmt: skip


def run_transformers(folder: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    """Outputs of the class that the configuration names, in fp32.

    Tensors that do not fit are an error; so are, under remote code, missing and unexpected ones. A stock class
    may have more (a pooler that the file never had) or fewer (stored position ids) than the original file.
    """
    import torch
    import transformers

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    named = str((config.get("architectures") or ["AutoModel"])[0])
    remote = [auto for auto in config.get("auto_map", {}) if auto.startswith("AutoModel")]
    cls = getattr(transformers, remote[-1] if remote else named, transformers.AutoModel)
    model, info = cls.from_pretrained(
        folder, trust_remote_code=bool(remote), dtype=torch.float32, output_loading_info=True
    )
    lenient = () if remote else ("missing_keys", "unexpected_keys")
    wrong = {what: sorted(map(str, found)) for what, found in info.items() if found and what not in lenient}
    if wrong:
        raise RuntimeError(f"not every tensor found its place: {wrong}")
    with torch.inference_mode():
        out = model.eval()(**inputs)
    return {NAMES.get(name, name): value for name, value in out.items() if torch.is_tensor(value)}


def run_onnx(folder: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    """Outputs of ``model.onnx`` in ONNX Runtime on the CPU."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    taken = {item.name for item in session.get_inputs()}
    outputs = session.run(None, {name: value.numpy() for name, value in inputs.items() if name in taken})
    names = [item.name for item in session.get_outputs()]
    return {name: torch.from_numpy(value) for name, value in zip(names, outputs, strict=True)}


def run_native(folder: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    """Outputs of the native dialect, which archtool itself reads."""
    import torch

    from archtool.model.load import load  # type: ignore[import-not-found,unused-ignore]

    with torch.inference_mode():
        return dict(load(folder).module()(**inputs))


def run_module(folder: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    """Outputs of a pruned module of a user's file, by the loader in its folder; ``"0"`` is its first input."""
    import importlib

    import torch

    said = json.loads((folder / "pruned.json").read_text(encoding="utf-8"))
    file, _, function = said["build"].rpartition(":")
    sys.path[:0] = [str(folder), str(Path(file).resolve().parent)]
    loader = importlib.import_module("load_pruned")
    module = loader.load_pruned(getattr(importlib.import_module(Path(file).stem), function), folder)
    places = sorted((key for key in inputs if key.isdigit()), key=int)
    words = {key: value for key, value in inputs.items() if not key.isdigit()}
    with torch.inference_mode():
        out = module(*(inputs[key] for key in places), **words)
    return loader.tensors(out)


RUNTIMES = {"transformers": run_transformers, "onnxruntime": run_onnx, "native": run_native, "module": run_module}


def run_job(job: dict[str, str]) -> dict[str, Any]:
    """One job's outcome; an error is part of it."""
    from safetensors.torch import load_file, save_file

    try:
        outputs = RUNTIMES[job["runtime"]](Path(job["folder"]), load_file(job["inputs"]))
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    save_file({name: value.contiguous().clone() for name, value in outputs.items()}, job["outputs"])
    ours = [name for name, module in sys.modules.items() if name.split(".")[0] == "archtool" and module]
    return {"error": "", "outputs": sorted(outputs), "modules": ours}


def main(path: str) -> None:
    """Run all jobs of a file."""
    jobs = json.loads(Path(path).read_text(encoding="utf-8"))
    if all(job["runtime"] != "native" for job in jobs):
        sys.modules["archtool"] = None  # type: ignore[assignment]
    else:
        sys.path.insert(0, next(job["package"] for job in jobs if job["runtime"] == "native"))
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for job in jobs:
        Path(job["report"]).write_text(json.dumps(run_job(job)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
