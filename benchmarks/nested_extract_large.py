"""Extraction from disk to disk is about as fast as copying what it writes, in little memory.

Makes a synthetic Llama of random finite bf16 and cuts a third of it: skipped layers, other ffn widths in every layer.
In turns: the extraction through the Python interface in a fresh process, whose clock starts when its modules are
imported; the whole command ``archtool extract``; and copying the written files. All end in fsync, all begin with their
input in the page cache where memory allows. Medians over the rounds.

    python benchmarks/nested_extract_large.py --quick       1 GB: the same claims, start-up weighs more
    python benchmarks/nested_extract_large.py               4 GB, about 6 GB of free disk
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import arguments, emit
from large import GNU_TIME, QUICK, Timed, copy_seconds, headers, make_random, timed, warm

SKIPPED_SHARE, NARROW, WIDE = 0.3, 0.125, 0.375
API = """
import sys, time
from pathlib import Path
import numpy
from archtool.model.apply import apply
from archtool.model.load import load
from archtool.model.save import save
from archtool.transforms.extract.slices import read_slices
import archtool.families.llama, archtool.model.strips, archtool.checkpoint.values
begun = time.perf_counter()
whole = load(sys.argv[1])
chosen = read_slices(Path(sys.argv[2]), whole.architecture)["third"].submodel
Path(sys.argv[3]).mkdir()
save(apply(whole, chosen.edit(whole.architecture, "slice")), Path(sys.argv[3]))
Path(sys.argv[4]).write_text(str(time.perf_counter() - begun))
"""


def slicing_table(path: Path, size_bytes: int) -> None:
    """A row ``third``: every third layer or so is skipped, the others are narrow and wide in turn."""
    _, layers = headers(QUICK, size_bytes)
    skipped = [int((i + 0.5) / SKIPPED_SHARE) for i in range(int(layers * SKIPPED_SHARE))]
    kept = layers - len(skipped)
    widths = [int(QUICK.hidden * (WIDE if i % 2 else NARROW)) for i in range(kept)]
    path.write_text(f'name,FFN Hidden Dims,Layers Skipped\nthird,"{widths}","{skipped}"\n', encoding="utf-8")


def rounds(scratch: Path, source: Path, count: int) -> dict[str, list[Any]]:
    """Seconds or `Timed` of each kind, interleaved; the first extraction leaves what is copied."""
    table, out, again, clock = (scratch / name for name in ("table.csv", "out", "again", "clock"))
    found: dict[str, list[Any]] = {"extract": [], "command": [], "copy": []}
    for _ in range(count):
        shutil.rmtree(out, ignore_errors=True)
        warm(source)
        process = timed(["-c", API, str(source), str(table), str(out), str(clock)], scratch)
        found["extract"].append(Timed(float(clock.read_text()), process.peak_bytes, process.cpu_seconds))
        warm(out)
        found["copy"].append(copy_seconds(out, again))
        shutil.rmtree(again)
        warm(source)
        words = ["extract", str(source), "--slice", "third", "--slices", str(table), "--out", str(scratch / "run")]
        found["command"].append(timed(["-m", "archtool", *words, "--json", "--quiet"], scratch))
        shutil.rmtree(scratch / "run")
    found["bytes"] = [sum(f.stat().st_size for f in out.iterdir()), sum(f.stat().st_size for f in source.iterdir())]
    return found


def main() -> int:
    """Make, cut, copy, print."""
    parser = arguments(__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where scratch files go")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is timed")
    asked = parser.parse_args()
    size_bytes = 1_000_000_000 if asked.quick else 4_000_000_000
    if not Path(GNU_TIME).exists():
        parser.error(f"{GNU_TIME} is missing: apt-get install time")
    if shutil.disk_usage(asked.folder).free < 1.9 * size_bytes:
        parser.error(f"{asked.folder} has too little free disk: {1.9 * size_bytes / 1e9:.1f} GB are needed")
    with tempfile.TemporaryDirectory(prefix="extract-", dir=asked.folder) as scratch:
        source = Path(scratch) / "source"
        make_random(source, QUICK, size_bytes)
        slicing_table(Path(scratch) / "table.csv", size_bytes)
        found = rounds(Path(scratch), source, asked.rounds)
    report(found, asked.rounds)
    return 0


def report(found: dict[str, list[Any]], count: int) -> None:
    """The claims, and every round for people."""
    written, read = found["bytes"]
    copies: list[float] = found["copy"]
    for name in ("extract", "command"):
        times = [run.seconds for run in found[name]]
        shown = ", ".join(f"{t:.2f}" for t in times)
        print(f"{name}: {shown} s; copying {', '.join(f'{t:.2f}' for t in copies)} s", file=sys.stderr)
        ratios = [t / c for t, c in zip(times, copies, strict=True)]
        note = f"{written / 1e9:.2f} of {read / 1e9:.2f} GB; medians {statistics.median(times):.2f} s and "
        note += f"{statistics.median(copies):.2f} s over {count} rounds"
        value = round(statistics.median(times) / statistics.median(copies), 3)
        emit(f"nested.4.{name}_time_over_copy", value, spread=round(max(ratios) - min(ratios), 3), note=note)
    peak = max(run.peak_bytes for run in (*found["extract"], *found["command"]))
    emit("nested.4.peak_gb", round(peak / 1e9, 3), note=json.dumps({"written_share": round(written / read, 3)}))


if __name__ == "__main__":
    sys.exit(main())
