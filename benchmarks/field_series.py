"""Real forecasters give their published errors: PatchTST's own four on ETTh1, last incomplete batch dropped.

python benchmarks/field_series.py
"""

from __future__ import annotations

from common import ROOT, NoData, archtool, arguments, emit, shared, skip

NAMES = ROOT / "recipes" / "names" / "patchtst-etth1.yaml"
HORIZONS = (96, 192, 336, 720)
BATCH = 128


def main() -> None:
    """Print every claim; those without data are skipped."""
    arguments(__doc__).parse_args()
    try:
        for horizon in HORIZONS:
            forecast(horizon)
    except NoData as why:
        skip((f"field.patchtst.{horizon}" for horizon in HORIZONS), why)


def forecast(horizon: int) -> None:
    """One forecaster on the test rows, by the command line."""
    weights = shared("patchtst_etth1", f"patchtst_336_{horizon}.safetensors")
    data = ("--data", shared("etth1", "ETTh1.csv"), "--set", "data.split=test")
    batches = ("--set", f"data.preprocess.drop_last={BATCH}")
    found = archtool("eval", weights, "--names", NAMES, "--task", "forecast", *data, *batches, "--json").json()
    count = found["records"]["data"]["examples"]
    emit(f"field.patchtst.{horizon}", found["mse"], note=f"MSE over {count} windows; MAE {found['mae']:.5f}")


if __name__ == "__main__":
    main()
