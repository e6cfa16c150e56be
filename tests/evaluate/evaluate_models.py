"""Small hand-written modules that obey the model call contract, and data for them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from archtool.data import Data, DataSpec
from archtool.data.columns import Dense, Ragged
from archtool.data.dataset import Padding, Pairs

SHARED = Path(os.environ.get("ARCHTOOL_SHARED", Path(__file__).resolve().parents[3] / "shared"))


def shared(*parts):
    path = SHARED.joinpath("data", *parts)
    if not path.exists():
        pytest.skip(f"{path} is not here (set ARCHTOOL_SHARED)")
    return path


class Fixed(torch.nn.Module):
    """Gives rows of stored outputs, chosen by the first element of the first input."""

    def __init__(self, **outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, **inputs):
        rows = next(iter(inputs.values())).flatten(1)[:, 0].long()
        return {name: values[rows] for name, values in self.outputs.items()}


class WordEmbedding(torch.nn.Module):
    """``hidden`` by a table, with no context."""

    def __init__(self, table):
        super().__init__()
        self.table = table
        self.calls = []

    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        self.calls.append(tuple(input_ids.shape))
        return {"hidden": self.table[input_ids]}


class Bigram(torch.nn.Module):
    """Language-model logits from the current token only."""

    def __init__(self, table):
        super().__init__()
        self.table = table

    def forward(self, input_ids):
        return {"logits": self.table[input_ids]}


def numbered(count, task, **targets):
    """Examples whose input is their own number."""
    inputs = {"pixel_values": Dense(np.arange(count, dtype=np.float32).reshape(count, 1, 1, 1))}
    columns = {name: Dense(np.asarray(values)) for name, values in targets.items()}
    return Data(DataSpec("made", task), task, inputs, columns, np.arange(count), Padding({}))


def sentences(ids, pairs, scores):
    """Similarity data over sentences of token ids."""
    columns = {"input_ids": Ragged.of(ids), "attention_mask": Ragged.of([[1] * len(row) for row in ids])}
    padding = Padding({"input_ids": 0, "attention_mask": 0})
    made = Pairs(np.asarray(pairs), np.asarray(scores, dtype=float))
    spec = DataSpec("made", "similarity")
    return Data(spec, "similarity", columns, {}, np.arange(len(ids)), padding, made)
