"""What a number was measured on, and how fast that machine is at best.

A latency means little without its machine. `machine` names it; `machine_peak` measures the fastest fp32
matrix product and the memory bandwidth that this process can reach, so that a latency can be stated as a
share of them (FLOPs = 2 × MACs).
"""

import functools
import hashlib
import os
import platform
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

_GEMM_SIZES = (256, 512, 1024)
_GEMM_SECONDS = 0.1
_COPY_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Machine:
    """The parts of a computer that decide its speed.

    Args:
        cpu: the processor's name with family, model and stepping where the system tells them.
        cores: cores that this process may use.
        memory_gib: main memory, rounded to 2^30 bytes (the exact number moves with the kernel).
        system: operating system and architecture.
    """

    cpu: str
    cores: int
    memory_gib: int
    system: str

    @property
    def id(self) -> str:
        """A short name that is equal for equal machines."""
        return hashlib.sha256(repr(sorted(asdict(self).items())).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Peak:
    """The best this machine was seen to do.

    Args:
        threads: threads used for both numbers.
        flops_per_s: fp32 matrix product, best over sizes and libraries.
        bytes_per_s: copy between two large arrays, bytes read plus bytes written.
        library: the library that won the matrix product.
        size: the side of the square matrices that won.
    """

    threads: int
    flops_per_s: float
    bytes_per_s: float
    library: str
    size: int

    def compute_share(self, macs: int, latency_ms: float) -> float:
        """The part of the peak FLOP/s that ``macs`` in ``latency_ms`` reach (1.0 is the peak)."""
        return 2 * macs / (latency_ms / 1e3) / self.flops_per_s


@functools.cache
def machine() -> Machine:
    """Describe this machine."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(_cpu_name(), cores, round(memory_bytes / 2**30), f"{platform.system()} {platform.machine()}")


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or "unknown"
    fields = dict(re.findall(r"^(.+?)\s*:\s*(.*)$", info.read_text().split("\n\n")[0], re.MULTILINE))
    name = fields.get("model name", platform.processor() or "unknown")
    numbers = [f"{key} {fields[key]}" for key in ("cpu family", "model", "stepping") if key in fields]
    return ", ".join([name, *numbers])


@functools.cache
def machine_peak(threads: int) -> Peak:
    """Measure the peak of ``threads`` threads; about a second, once per process and thread count."""
    from archtool.measure.pinning import pinned

    with pinned(threads):
        results = [
            (2 * size**3 / _best_seconds(product(size, threads)), library, size)
            for library, product in (("torch", _torch_product), ("onnxruntime", _ort_product))
            for size in _GEMM_SIZES
        ]
        bytes_per_s = _copy_bandwidth()
    flops_per_s, library, size = max(results)
    return Peak(threads, flops_per_s, bytes_per_s, library, size)


def _best_seconds(run: Callable[[], object]) -> float:
    run()
    best, end = float("inf"), time.perf_counter() + _GEMM_SECONDS
    while True:
        start = time.perf_counter()
        run()
        now = time.perf_counter()
        best = min(best, now - start)
        if now >= end:
            return best


def _torch_product(size: int, threads: int) -> Callable[[], object]:
    import torch

    a_NN, b_NN, c_NN = (torch.ones(size, size) for _ in range(3))
    return lambda: torch.mm(a_NN, b_NN, out=c_NN)


def _ort_product(size: int, threads: int) -> Callable[[], object]:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    from archtool.measure.runtimes.ort import open_session

    a_NN = np.ones((size, size), np.float32)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [size, size]) for name in ("a", "c")]
    weight = numpy_helper.from_array(a_NN, "b")
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = helper.make_graph([node], "product", ends[:1], ends[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = open_session(model.SerializeToString(), threads)
    return lambda: session.run(None, {"a": a_NN})


def _copy_bandwidth() -> float:
    import torch

    source = torch.ones(_COPY_BYTES // 4)
    target = torch.empty_like(source)
    return 2 * _COPY_BYTES / _best_seconds(lambda: target.copy_(source))
