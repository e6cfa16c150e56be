"""A model's tokenizer, and the folder of everything that travels along, with the tokenizer that is left.

Both forms of `TrimmableTokenizer` read a folder or a file of the model's, count with it, and write a folder whose
sidecars replace the model's.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.checkpoint.folder import copy_sidecars, read_json
from archtool.checkpoint.shards import INDEX_NAME
from archtool.data.scored_bpe import ScoredBPE, read_scored_bpe
from archtool.data.spec import TokenPreprocess
from archtool.data.tokenizers import FolderTokenizer, load_folder_tokenizer, open_tokenizer
from archtool.errors import InputError
from archtool.transforms.vocabulary import rewrite
from archtool.transforms.vocabulary.pieces import Pieces, pieces_of_json, pieces_of_scored

if TYPE_CHECKING:
    from archtool.model.checkpoint import Source

BATCH = 1000
SCORED_NAME = "tokenizer.bin"
WHOLE = ("*.model", "*.spm", "*_vocabulary.*", "tekken.json")
"""Files that hold the whole vocabulary in a form that is not rewritten; tokenizer.json stands for them."""


@dataclass(frozen=True)
class HubTokenizer:
    """A Hugging Face tokenizer on the ``tokenizers`` library."""

    inner: Any
    place: Path

    @property
    def state(self) -> dict[str, Any]:
        """The contents of its ``tokenizer.json``, or what transformers makes of its other files."""
        file = self.place / "tokenizer.json"
        return read_json(file) if file.is_file() else dict(json.loads(self.inner.backend_tokenizer.to_str()))

    def pieces(self) -> Pieces:
        """Its tokens."""
        used = json.loads(self.inner.backend_tokenizer.to_str())
        return pieces_of_json(used, self.place.name)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts with what the tokenizer puts around them, uncut."""
        found: list[list[int]] = []
        for i in range(0, len(texts), BATCH):
            found += self.inner(list(texts[i : i + BATCH]), truncation=False, padding=False, verbose=False)["input_ids"]
        return found

    def write(self, folder: Path, new: Mapping[int, int]) -> list[tuple[str, str]]:
        """Rewrite the files in a folder of sidecars; what was left out, with the reason."""
        state = rewrite.trimmed_json(self.state, new)
        _put(folder / "tokenizer.json", state)
        kept = rewrite.trimmed_table(self.inner.get_vocab(), new)
        for name, text in _tables(folder, new, kept).items():
            (folder / name).write_text(text, encoding="utf-8")
        settings = folder / "tokenizer_config.json"
        if settings.is_file():
            _put(settings, _settings(read_json(settings), new))
        gone = [file for pattern in WHOLE for file in sorted(folder.glob(pattern))]
        for file in gone:
            file.unlink()
        return [(file.name, "left out: it holds the whole vocabulary; tokenizer.json replaces it") for file in gone]


def _tables(folder: Path, new: Mapping[int, int], kept: Mapping[str, int]) -> dict[str, str]:
    """The new texts of the plain files that are there."""
    made: dict[str, str] = {}
    if (folder / "vocab.txt").is_file():
        made["vocab.txt"] = rewrite.trimmed_lines((folder / "vocab.txt").read_text(encoding="utf-8"), new)
    if (folder / "merges.txt").is_file():
        made["merges.txt"] = rewrite.trimmed_merges((folder / "merges.txt").read_text(encoding="utf-8"), kept)
    for name in ("vocab.json", "added_tokens.json"):
        if (folder / name).is_file():
            made[name] = _text(rewrite.trimmed_table(read_json(folder / name), new))
    return made


def _settings(config: dict[str, Any], new: Mapping[int, int]) -> dict[str, Any]:
    """``tokenizer_config.json``: the table of added tokens is by id."""
    table = config.get("added_tokens_decoder")
    if not isinstance(table, Mapping):
        return config
    return {**config, "added_tokens_decoder": {str(new[int(i)]): token for i, token in table.items() if int(i) in new}}


@dataclass(frozen=True)
class ScoredTokenizer:
    """A scored-BPE file."""

    inner: ScoredBPE
    place: Path

    def pieces(self) -> Pieces:
        """Its tokens."""
        return pieces_of_scored(self.inner)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids with the beginning in front."""
        return [self.inner.encode(text) for text in texts]

    def write(self, folder: Path, new: Mapping[int, int]) -> list[tuple[str, str]]:
        """Write the file under the name that data loading finds."""
        for file in folder.glob("tok*.bin"):
            file.unlink()
        (folder / SCORED_NAME).write_bytes(rewrite.trimmed_scored(self.inner, new))
        return []


TrimmableTokenizer = HubTokenizer | ScoredTokenizer


def tokenizer_of(source: Source) -> TrimmableTokenizer:
    """The tokenizer of a model.

    Raises:
        InputError: there is none, or none on the ``tokenizers`` library.
    """
    if source.folder is None and source.tokenizer is None:
        raise InputError("the model has no tokenizer", "Give a model folder with its tokenizer.")
    place = source.tokenizer or source.folder
    opened = open_tokenizer(TokenPreprocess(tokenizer=str(source.tokenizer or "model")), source.folder, "")
    if isinstance(opened, ScoredBPE):
        return ScoredTokenizer(opened, Path(str(place)))
    assert isinstance(opened, FolderTokenizer) and place is not None
    if not opened.inner.is_fast:
        raise InputError(
            f"{place}: {type(opened.inner).__name__} is not of the tokenizers library and cannot be trimmed exactly",
            "Save it with a tokenizer.json.",
        )
    return HubTokenizer(opened.inner, place)


def reopened(tokenizer: TrimmableTokenizer, folder: Path) -> TrimmableTokenizer:
    """The tokenizer as another program reads it from a folder."""
    if isinstance(tokenizer, ScoredTokenizer):
        return ScoredTokenizer(read_scored_bpe(folder / SCORED_NAME), folder)
    return HubTokenizer(load_folder_tokenizer("model", folder), folder)


def write_folder(
    source: Source, tokenizer: TrimmableTokenizer, folder: Path, new: Mapping[int, int], rows: int
) -> list[tuple[str, str]]:
    """All that travels with the model, with the tokenizer and ids of what is left; what was left out."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for place in (source.folder, source.tokenizer):
        if place is not None and place.is_dir():
            copy_sidecars(place, folder)
    if source.folder is not None and (source.folder / INDEX_NAME).is_file():
        shutil.copyfile(source.folder / INDEX_NAME, folder / INDEX_NAME)
    settings = folder / "generation_config.json"
    if settings.is_file():
        _put(settings, rewrite.trimmed_config(read_json(settings), new, rows))
    return tokenizer.write(folder, new)


def purposes(source: Source) -> dict[int, str]:
    """Ids that the configuration or the settings of generation name for a purpose."""
    file = source.folder / "generation_config.json" if source.folder else None
    said = read_json(file) if file is not None and file.is_file() else {}
    return {**rewrite.named_ids(source.config), **rewrite.named_ids(said)}


def _put(file: Path, content: Any) -> None:
    file.write_text(_text(content), encoding="utf-8")


def _text(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"
