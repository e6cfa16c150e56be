"""From a `DataSpec` to deterministic batches of model inputs and targets.

`load_data` reads a source, takes its split, and prepares it; `Batches` iterates it. No import here needs
torch: that happens when data is loaded.
"""

from archtool.data.batches import Batch, Batches
from archtool.data.dataset import IGNORE, Data, calibration
from archtool.data.load import default_preprocess, load_data
from archtool.data.spec import (
    SPLITS,
    TASKS,
    DataSpec,
    ImagePreprocess,
    PairPreprocess,
    Preprocess,
    SeriesPreprocess,
    TextPreprocess,
    TokenPreprocess,
    override,
    preprocess_from_json,
)

__all__ = [
    "IGNORE",
    "SPLITS",
    "TASKS",
    "Batch",
    "Batches",
    "Data",
    "DataSpec",
    "ImagePreprocess",
    "PairPreprocess",
    "Preprocess",
    "SeriesPreprocess",
    "TextPreprocess",
    "TokenPreprocess",
    "calibration",
    "default_preprocess",
    "load_data",
    "override",
    "preprocess_from_json",
]
