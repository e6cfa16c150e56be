"""What trimming has to know of a tokenizer, from the JSON of the ``tokenizers`` library or from a scored-BPE file.

- WordPiece and WordLevel: the longest piece wins; with fewer pieces the ones that are left win where they won before.
- BPE: a token is made by merges, so the tokens on the way to it have to stay (`merges`).
- Unigram: the best-scored cut wins; fewer pieces leave it the best. Unknown text costs 10 more than the worst-scored
  piece, so that piece stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archtool.data.scored_bpe import ScoredBPE
from archtool.errors import InputError
from archtool.transforms.vocabulary.merges import way

BYTE = re.compile(r"<0x[0-9A-F]{2}>")
SCORED = "scored BPE"


@dataclass(frozen=True)
class Pieces:
    """The tokens of a tokenizer.

    Attributes:
        kind: WordPiece, WordLevel, BPE, Unigram or scored BPE.
        tokens: id → token, added tokens included.
        fixed: id → why it cannot be dropped.
        way: id → the ids of the tokens on the way to it, in order, itself last; empty where none are needed.
    """

    kind: str
    tokens: Mapping[int, str]
    fixed: Mapping[int, str]
    way: Callable[[int], Sequence[int]]


def no_way(place: int) -> Sequence[int]:
    """Of tokens that need no other."""
    return ()


def pieces_of_json(state: Mapping[str, Any], named: str = "the tokenizer") -> Pieces:
    """The tokens of a ``tokenizer.json``.

    Raises:
        InputError: a kind that cannot be trimmed exactly, by name.
    """
    model, kind = state["model"], _kind(state["model"], named)
    tokens = {i: token for token, i in vocabulary(model).items()}
    added = {int(token["id"]): str(token["content"]) for token in state.get("added_tokens") or ()}
    ids = {token: i for i, token in tokens.items()}
    fixed = dict(_fixed(state, kind, ids)) | dict.fromkeys(added, "a special or added token")
    return Pieces(kind, {**tokens, **added}, fixed, _merge_ways(model, ids) if kind == "BPE" else no_way)


def vocabulary(model: Mapping[str, Any]) -> dict[str, int]:
    """Token → id of a tokenizer's model (for Unigram, whose ids are places; the first where a piece occurs twice)."""
    if isinstance(model["vocab"], Mapping):
        return dict(model["vocab"])
    return {piece: i for i, (piece, _) in reversed(list(enumerate(model["vocab"])))}


def _kind(model: Mapping[str, Any], named: str) -> str:
    kind = str(model.get("type") or ("Unigram" if isinstance(model.get("vocab"), list) else ""))
    hint = "WordPiece, WordLevel, BPE and Unigram without these settings can be trimmed."
    if kind not in ("WordPiece", "WordLevel", "BPE", "Unigram"):
        raise InputError(f"{named}: a tokenizer of kind {kind or 'unknown'!r} cannot be trimmed", hint)
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix") if kind == "BPE" else ():
        if model.get(key):
            raise InputError(f"{named}: BPE with {key}={model[key]!r} cannot be trimmed exactly", hint)
    return kind


def _fixed(state: Mapping[str, Any], kind: str, ids: Mapping[str, int]) -> Iterator[tuple[int, str]]:
    """Ids that have to stay, with the reason."""
    model = state["model"]
    unknown = model.get("unk_id") if kind == "Unigram" else ids.get(str(model.get("unk_token")))
    if unknown is not None:
        yield int(unknown), "the unknown token"
    if model.get("byte_fallback"):
        yield from ((i, "a byte that stands for text without a token") for t, i in ids.items() if BYTE.fullmatch(t))
    if kind == "BPE" and "ByteLevel" in _types(state):
        from tokenizers.pre_tokenizers import ByteLevel

        yield from ((ids[c], "a byte") for c in ByteLevel.alphabet() if c in ids)
    if kind == "Unigram" and model["vocab"]:
        yield min(range(len(model["vocab"])), key=lambda i: model["vocab"][i][1]), "the worst score: unknown text costs"
    for token, i in template_ids(state.get("post_processor")):
        yield i, f"{token} is put around every text"


def _types(part: Any) -> set[str]:
    """Kinds of all normalizers, pre-tokenizers and decoders."""
    if isinstance(part, list):
        return set().union(*map(_types, part))
    if not isinstance(part, Mapping):
        return set()
    return {str(part.get("type"))}.union(*(_types(v) for k, v in part.items() if k not in ("vocab", "merges")))


def template_ids(part: Any) -> Iterator[tuple[str, int]]:
    """The (token, id) pairs of a post-processor."""
    if isinstance(part, Mapping):
        for inner in part.get("processors") or ():
            yield from template_ids(inner)
        for key in ("sep", "cls"):
            if isinstance(part.get(key), list):
                yield str(part[key][0]), int(part[key][1])
        if part.get("type") == "TemplateProcessing":
            for token, entry in part.get("special_tokens", {}).items():
                yield from ((token, int(i)) for i in entry["ids"])


def pairs(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The merges of a BPE model, in order."""
    split = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    return [(str(a), str(b)) for a, b in split]


def _merge_ways(model: Mapping[str, Any], ids: Mapping[str, int]) -> Callable[[int], Sequence[int]]:
    ranks: dict[tuple[str, str], float] = {pair: float(i) for i, pair in reversed(list(enumerate(pairs(model))))}
    tokens = {i: token for token, i in ids.items()}

    def found(place: int) -> Sequence[int]:
        token = tokens.get(place, "")
        if any(char not in ids for char in token):
            return ()
        return [ids[t] for t in way(token, list(token), lambda a, b: ranks.get((a, b)))]

    return found


def pieces_of_scored(tokenizer: ScoredBPE) -> Pieces:
    """The tokens of a scored-BPE file, whose ids 0, 1 and 2 are unknown, beginning and end."""
    tokens = {i: piece.decode(errors="replace") for i, piece in enumerate(tokenizer.pieces)}
    fixed = dict.fromkeys((0, 1, 2), "unknown, beginning and end")
    fixed |= {i: "a byte that stands for text without a token" for i, t in tokens.items() if BYTE.fullmatch(t)}

    def rank(a: str, b: str) -> float | None:
        joined = tokenizer.ids.get((a + b).encode())
        return None if joined is None else -tokenizer.scores[joined]

    def found(place: int) -> Sequence[int]:
        token = tokens[place]
        if any(char.encode() not in tokenizer.ids for char in token):
            return ()
        return [tokenizer.ids[t.encode()] for t in way(token, list(token), rank)]

    return Pieces(SCORED, tokens, fixed, found)
