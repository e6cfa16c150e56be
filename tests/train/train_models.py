"""A tiny language model with its data, and a run that kills itself: what the tests of training share."""

import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import torch

from archtool.config.preset import build_model
from archtool.data import DataSpec, TokenPreprocess, load_data
from archtool.train.run import train
from archtool.train.settings import TrainSettings

TEXT = "the cat sat on the mat and the dog sat on the log; " * 12
LLAMA = {
    "family": "llama",
    "config": {
        "vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 24, "max_position_embeddings": 32, "initializer_range": 0.2,
    },
}  # fmt: skip


def tiny_llama(seed=0):
    return build_model(LLAMA, seed)


def text_data(folder: Path, length=16):
    file = folder / "text.txt"
    file.write_text(TEXT)
    return load_data(DataSpec(str(file), task="lm", preprocess=TokenPreprocess("chars", length=length)))


def settings(**changes):
    return TrainSettings(**{"steps": 12, "lr": 1e-2, "batch_size": 5, "save_steps": 2, **changes})


def tensors(checkpoint):
    return {name: lazy.rows(0, lazy.shape[0]) for name, lazy in checkpoint.weights.items()}


def same_bits(one, other):
    mine, theirs = tensors(one), tensors(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


class Stop:
    """A progress that ends the process, or raises, after some steps."""

    def __init__(self, after, how):
        self.left, self.how = after, how

    @contextmanager
    def phase(self, name, total=None):
        yield self

    def advance(self, n=1, note=""):
        if note:
            self.left -= 1
        if self.left == 0:
            self.how()


def kill_myself():
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    stop = Stop(int(sys.argv[2]), kill_myself)
    train(tiny_llama(), text_data(place), settings(accumulate=2), work=place, progress=stop)
