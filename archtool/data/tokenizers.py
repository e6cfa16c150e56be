"""Tokenizers for language models: Hugging Face folders, bytes, characters, and scored BPE files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from archtool.data.scored_bpe import read_scored_bpe
from archtool.data.spec import TokenPreprocess
from archtool.errors import InputError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILES = ("tokenizer*", "vocab*", "merges.txt", "*.model", "*.spm")
"""Names of tokenizers' files: without any, transformers makes empty tokenizers of some kinds."""


class Tokenizer(Protocol):
    """Text to ids and back; ``bos`` None does what the tokenizer does by itself."""

    @property
    def vocabulary_size(self) -> int:
        """How many ids there are."""
        ...

    def encode(self, text: str, bos: bool | None = None) -> list[int]:
        """The ids of a text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        ...


@dataclass(frozen=True)
class ByteTokenizer:
    """UTF-8 bytes: 256 ids."""

    vocabulary_size: int = 256

    def encode(self, text: str, bos: bool | None = None) -> list[int]:
        """The bytes; there is no beginning-of-sequence id."""
        _no_bos("bytes", bos)
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        """The text; invalid sequences become U+FFFD."""
        return bytes(ids).decode(errors="replace")


@dataclass(frozen=True)
class CharTokenizer:
    """One id per character of a stated vocabulary."""

    vocabulary: str

    @property
    def vocabulary_size(self) -> int:
        """How many characters there are."""
        return len(self.vocabulary)

    def encode(self, text: str, bos: bool | None = None) -> list[int]:
        """Ids; a character outside the vocabulary is an `InputError`."""
        _no_bos("chars", bos)
        number = {char: place for place, char in enumerate(self.vocabulary)}
        unknown = sorted(set(text) - set(number))
        if unknown:
            line = text[: text.index(unknown[0])].count("\n") + 1
            what = f"character {unknown[0]!r} (line {line} of the text) is not in the vocabulary"
            raise InputError(what, "extend preprocess.vocabulary, or leave it out to take the text's own")
        return [number[char] for char in text]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return "".join(self.vocabulary[place] for place in ids)


@dataclass(frozen=True)
class FolderTokenizer:
    """A Hugging Face tokenizer."""

    inner: "PreTrainedTokenizerBase"

    @property
    def vocabulary_size(self) -> int:
        """How many ids there are, added ones included."""
        return len(self.inner)

    def encode(self, text: str, bos: bool | None = None) -> list[int]:
        """Ids, with the tokenizer's own special tokens, or with exactly a BOS or none as asked."""
        if bos is None:
            return list(self.inner(text, verbose=False)["input_ids"])
        ids = list(self.inner(text, add_special_tokens=False, verbose=False)["input_ids"])
        if bos and self.inner.bos_token_id is None:
            raise UsageError("the tokenizer has no beginning-of-sequence token", "set preprocess.bos to false")
        return [self.inner.bos_token_id, *ids] if bos else ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return str(self.inner.decode(list(ids)))


def open_tokenizer(preprocess: TokenPreprocess, folder: Path | None, text: str) -> Tokenizer:
    """The tokenizer that the preprocessing names; ``text`` gives unstated characters of ``chars``.

    A model's folder without a Hugging Face tokenizer may hold one scored-BPE file ``tok*.bin``.
    """
    name = preprocess.tokenizer
    if name == "bytes":
        return ByteTokenizer()
    if name == "chars":
        return CharTokenizer(preprocess.vocabulary or "".join(sorted(set(text))))
    if name.endswith(".bin"):
        return read_scored_bpe(Path(name))
    scored = sorted(folder.glob("tok*.bin")) if name == "model" and folder and folder.is_dir() else []
    if len(scored) == 1 and folder and not (folder / "tokenizer_config.json").exists():
        return read_scored_bpe(scored[0])
    return FolderTokenizer(load_folder_tokenizer(name, folder))


def load_folder_tokenizer(name: str, folder: Path | None) -> Any:
    """The Hugging Face tokenizer of the model's folder (``model``) or of another one; runs no remote code.

    Raises:
        InputError: no folder, or no tokenizer that loads in it.
    """
    place = folder if name == "model" else Path(name)
    if place is None:
        raise InputError("no tokenizer: the model has no folder", "state preprocess.tokenizer (a folder)")
    if not place.is_dir():
        raise InputError(f"{place}: no such folder for a tokenizer", "use a folder, bytes, chars or a .bin file")
    hint = "copy tokenizer.json and tokenizer_config.json there, or state preprocess.tokenizer"
    if not any(file for pattern in FILES for file in place.glob(pattern)):
        raise InputError(f"{place}: no tokenizer that transformers loads (none of its files)", hint)
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(place), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{place}: no tokenizer that transformers loads ({str(error).splitlines()[0]})"
        raise InputError(what, hint) from error


def _no_bos(name: str, bos: bool | None) -> None:
    if bos:
        raise UsageError(f"the {name} tokenizer has no beginning-of-sequence token", "leave preprocess.bos out")
