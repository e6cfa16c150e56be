"""Small data files of every kind, written by tests."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(os.environ.get("ARCHTOOL_SHARED", Path(__file__).resolve().parents[3] / "shared"))


def shared(*parts):
    path = SHARED.joinpath("data", *parts)
    if not path.exists():
        pytest.skip(f"{path} is not here (set ARCHTOOL_SHARED)")
    return path


def write_idx(path, array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    content = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_lines(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_jsonl(path, rows):
    return write_lines(path, *(json.dumps(row) for row in rows))


def tokenizer_folder(folder):
    """A word-level tokenizer saved as transformers does it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghij", "good", "bad", "film"]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def words_folder(tmp_path_factory):
    return tokenizer_folder(tmp_path_factory.mktemp("words"))


def first_batch(data, **settings):
    from archtool.data import Batches

    return next(iter(Batches(data, len(data), **settings)))
