"""Where a run came from: command, recipe, versions, machine and inputs, without importing any package."""

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "archtool", "torch", "transformers", "safetensors", "numpy", "scipy", "scikit-learn", "datasets",
    "accelerate", "pydantic", "typer", "optuna", "nni", "torch-pruning", "bitsandbytes", "onnx",
    "onnxscript", "onnxruntime", "openvino", "nncf", "ray", "psycopg", "torchao",
    "compressed-tensors", "gguf",
)  # fmt: skip


def versions() -> dict[str, str]:
    """The installed version of each package that matters; those not installed are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """The hardware and system, as plain values."""
    return {
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": memory_bytes(),
    }


def cpu_model() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def memory_bytes() -> int:
    """Physical memory; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def provenance(
    recipe_text: str, seed: int, threads: int | None, inputs: Mapping[str, str], argv: Sequence[str]
) -> dict[str, Any]:
    """The record written to ``provenance.json`` when a run starts; wall times are added at its end."""
    return {
        "argv": list(argv),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": recipe_text,
        "seed": seed,
        "python": sys.version.split()[0],
        "packages": versions(),
        "machine": machine(),
        "threads": threads or machine()["cores"],
        "inputs": dict(inputs),
    }
