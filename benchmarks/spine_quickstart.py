"""Item 1: the shipped quickstart, end to end, as its user starts it.

python benchmarks/spine_quickstart.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from common import ROOT, archtool, arguments, emit


def main() -> None:
    """Run the recipe once and print what came of it."""
    arguments(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "quickstart"
        done = archtool("run", ROOT / "recipes" / "quickstart.yaml", "--out", out, "--json")
        sys.stderr.write(done.stderr)
        emit("spine.1.quickstart_exit_code", done.code)
        emit("spine.1.quickstart_seconds", round(done.seconds, 1))
        records = done.json()["records"]
        emit("spine.1.quickstart_budgets_missed", sum(not check["met"] for check in records["budgets"]))
        for which, name in (("parent", "before"), ("child", "after")):
            accuracy = records[which]["metrics"]["accuracy"]
            emit(f"spine.1.quickstart_accuracy_{name}", accuracy["value"], note=f"stderr {accuracy['stderr']}")
        for found in json.loads((out / "verified.json").read_text()):
            which = "onnx" if found["runtime"] == "onnxruntime" else "reload"
            note = found["error"] or f"{found['dialect']} dialect, loaded by {found['runtime']}"
            emit(f"spine.1.quickstart_{which}_max_abs_diff", found["max_abs_diff"], note=note)


if __name__ == "__main__":
    main()
