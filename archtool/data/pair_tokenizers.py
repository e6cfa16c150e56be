"""Tokenizers of encoder-decoders: source text to ids, target text to ids and back.

A Hugging Face folder has one tokenizer for both (Marian's switches between two); OpenNMT has a vocabulary file for
each side, one token per line, which is the text's characters where all tokens are single characters, else its words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from archtool.checkpoint.folder import read_json
from archtool.data.encode_text import default_max_length, pad_id
from archtool.data.spec import PairPreprocess
from archtool.data.tokenizers import load_folder_tokenizer
from archtool.errors import UsageError

VOCABULARIES = ("source_vocabulary.txt", "target_vocabulary.txt")
START, STOP, UNKNOWN = "<s>", "</s>", "<unk>"


class PairTokenizer(Protocol):
    """Source and target text to ids; target ids to text.

    Attributes:
        start: id that decoding starts with.
        stop: id that ends a target, or None.
        pad: id that fills up shorter sources.
        max_length: ids of a text that the model takes.
        vocabulary_size: how many source ids there are.
    """

    @property
    def start(self) -> int:
        """See the class."""

    @property
    def stop(self) -> int | None:
        """See the class."""

    @property
    def pad(self) -> int:
        """See the class."""

    @property
    def max_length(self) -> int:
        """See the class."""

    @property
    def vocabulary_size(self) -> int:
        """See the class."""

    def encode(self, text: str, bos: bool | None = None) -> list[int]:
        """Source ids."""

    def encode_target(self, text: str) -> list[int]:
        """Target ids; the last one ends it."""

    def decode(self, ids: Sequence[int]) -> str:
        """Target text, without special tokens."""


@dataclass(frozen=True)
class FolderPairs:
    """A Hugging Face tokenizer."""

    inner: Any
    start: int
    folder: Path | None

    @property
    def stop(self) -> int | None:
        """The end of a sentence."""
        return None if self.inner.eos_token_id is None else int(self.inner.eos_token_id)

    @property
    def pad(self) -> int:
        """The padding id; any id serves where there is none."""
        return pad_id(self.inner)

    @property
    def max_length(self) -> int:
        """The tokenizer's limit."""
        return default_max_length(self.folder, self.inner)

    @property
    def vocabulary_size(self) -> int:
        """How many ids there are, added ones included."""
        return len(self.inner)

    def encode(self, text: str, bos: bool | None = None) -> list[int]:
        """Source ids with the tokenizer's own special tokens."""
        return list(self.inner(text, verbose=False)["input_ids"])

    def encode_target(self, text: str) -> list[int]:
        """Target ids with the tokenizer's own special tokens."""
        return list(self.inner(text_target=text, verbose=False)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return str(self.inner.decode(list(ids), skip_special_tokens=True))


@dataclass(frozen=True)
class VocabularyPairs:
    """A list of tokens for each side; a token that is not in it becomes the last id."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    max_length: int = 512
    pad: int = 0

    @property
    def start(self) -> int:
        """The start of a sentence."""
        return self.target.index(START)

    @property
    def stop(self) -> int:
        """The end of a sentence."""
        return self.target.index(STOP)

    @property
    def vocabulary_size(self) -> int:
        """All tokens and the unknown one."""
        return len(self.source) + (UNKNOWN not in self.source)

    @cached_property
    def ids(self) -> tuple[dict[str, int], dict[str, int]]:
        """Token → id on each side."""
        return tuple({token: i for i, token in enumerate(side)} for side in (self.source, self.target))  # type: ignore[return-value]

    def encode(self, text: str, bos: bool | None = None) -> list[int]:
        """Source ids, without special tokens."""
        return self._encode(text, 0)

    def encode_target(self, text: str) -> list[int]:
        """Target ids and the end of a sentence."""
        return [*self._encode(text, 1), self.stop]

    def _encode(self, text: str, side: int) -> list[int]:
        words, known = (self.source, self.target)[side], self.ids[side]
        pieces = [c for c in text if not c.isspace()] if _spelled(words) else text.split()
        return [known.get(piece, known.get(UNKNOWN, len(words))) for piece in pieces]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        words = (self.target[i] if i < len(self.target) else UNKNOWN for i in ids)
        return ("" if _spelled(self.target) else " ").join(word for word in words if word not in (START, STOP))


def _spelled(words: Sequence[str]) -> bool:
    """Whether all tokens but special ones are single characters."""
    return all(len(word) == 1 or word.startswith("<") for word in words)


def open_pairs(preprocess: PairPreprocess, folder: Path | None) -> PairTokenizer:
    """The tokenizers that the preprocessing names.

    Raises:
        InputError: no folder, or no tokenizer that loads in it.
        UsageError: nothing says which id decoding starts with.
    """
    place = folder if preprocess.tokenizer == "model" else Path(preprocess.tokenizer)
    files = [place / name for name in VOCABULARIES] if place else []
    if files and all(file.is_file() for file in files):
        source, target = (tuple(file.read_text(encoding="utf-8").removesuffix("\n").split("\n")) for file in files)
        return VocabularyPairs(source, target)
    inner = load_folder_tokenizer(preprocess.tokenizer, folder)
    start = preprocess.start if preprocess.start is not None else _start(place)
    start = inner.pad_token_id if start is None else start
    if start is None:
        raise UsageError("nothing says which token decoding starts with", "State data.preprocess.start (an id).")
    return FolderPairs(inner, int(start), place)


def _start(folder: Path | None) -> Any:
    """The id that the model's folder says decoding starts with, or None."""
    for name in ("generation_config.json", "config.json"):
        if folder and (folder / name).is_file():
            found = read_json(folder / name).get("decoder_start_token_id")
            if found is not None:
                return found
    return None
