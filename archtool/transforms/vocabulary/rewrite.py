"""A tokenizer's files with fewer tokens, as pure functions on their contents; ``new`` maps kept ids to new ones.

Ids keep their order, so that ids of lists are places in the shorter list.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from archtool.data.scored_bpe import ScoredBPE
from archtool.transforms.vocabulary.pieces import pairs

Ids = Mapping[int, int]

SINGLE = re.compile(r"\w*_token_id|unk_id|pad_id")
"""Keys of one id, or of several that mean the same."""
LISTS = ("suppress_tokens", "begin_suppress_tokens", "_token_ids")
SEQUENCES = ("bad_words_ids", "force_words_ids")


def trimmed_json(state: Mapping[str, Any], new: Ids) -> dict[str, Any]:
    """A ``tokenizer.json`` of the kept tokens."""
    made = {**state, "model": _model(state["model"], new)}
    made["added_tokens"] = [{**t, "id": new[int(t["id"])]} for t in state.get("added_tokens") or ()]
    made["post_processor"] = _post_processor(state.get("post_processor"), new)
    if isinstance(state.get("padding"), Mapping):
        made["padding"] = {**state["padding"], "pad_id": new.get(state["padding"]["pad_id"], 0)}
    return made


def _model(model: Mapping[str, Any], new: Ids) -> dict[str, Any]:
    if isinstance(model["vocab"], list):
        kept = [piece for i, piece in enumerate(model["vocab"]) if i in new]
        return {**model, "vocab": kept, "unk_id": None if model.get("unk_id") is None else new[model["unk_id"]]}
    vocab = {token: new[i] for token, i in model["vocab"].items() if i in new}
    if "merges" not in model:
        return {**model, "vocab": vocab}
    written = zip(model["merges"], pairs(model), strict=True)
    return {**model, "vocab": vocab, "merges": [text for text, pair in written if _stays(pair, vocab)]}


def _stays(pair: Sequence[str], vocab: Mapping[str, int]) -> bool:
    """Whether both parts of a merge and its result are tokens."""
    return all(token in vocab for token in (*pair, "".join(pair)))


def _post_processor(part: Any, new: Ids) -> Any:
    if not isinstance(part, Mapping):
        return part
    made = dict(part)
    if isinstance(part.get("processors"), list):
        made["processors"] = [_post_processor(inner, new) for inner in part["processors"]]
    for key in ("sep", "cls"):
        if isinstance(part.get(key), list):
            made[key] = [part[key][0], new[part[key][1]]]
    if isinstance(part.get("special_tokens"), Mapping):
        made["special_tokens"] = {
            token: {**entry, "ids": [new[i] for i in entry["ids"]]} for token, entry in part["special_tokens"].items()
        }
    return made


def trimmed_lines(text: str, new: Ids) -> str:
    """A file of one token per line."""
    lines = text.removesuffix("\n").split("\n")
    return "".join(f"{line}\n" for i, line in enumerate(lines) if i in new)


def trimmed_table(table: Mapping[str, int], new: Ids) -> dict[str, int]:
    """Token → id."""
    return {token: new[i] for token, i in table.items() if i in new}


def trimmed_merges(text: str, kept: Mapping[str, int]) -> str:
    """A ``merges.txt``: lines of two tokens, behind lines that are none."""
    lines = text.removesuffix("\n").split("\n")
    return "".join(f"{line}\n" for i, line in enumerate(lines) if _is_head(i, line) or _stays(line.split(" "), kept))


def _is_head(i: int, line: str) -> bool:
    return (i == 0 and line.startswith("#version")) or not line


def trimmed_scored(tokenizer: ScoredBPE, new: Ids) -> bytes:
    """A scored-BPE file of the kept pieces."""
    kept = [(s, p) for i, (s, p) in enumerate(zip(tokenizer.scores, tokenizer.pieces, strict=True)) if i in new]
    rows = b"".join(struct.pack("<fi", score, len(piece)) + piece for score, piece in kept)
    return struct.pack("<i", max(len(piece) for _, piece in kept)) + rows


def named_ids(config: Any) -> dict[int, str]:
    """Ids that a configuration names for a purpose (beginning, end, padding, first of a decoder) → the key."""
    found: dict[int, str] = {}
    for key, value in config.items() if isinstance(config, Mapping) else ():
        if SINGLE.fullmatch(key):
            found |= {i: key for i in (value if isinstance(value, list) else [value]) if isinstance(i, int)}
        elif key == "forced_decoder_ids" and isinstance(value, list):
            found |= {i: key for _, i in value if isinstance(i, int)}
        else:
            found |= named_ids(value)
    return found


def trimmed_config(config: Any, new: Ids, rows: int) -> Any:
    """A configuration whose ids are the new ones, at any depth; ids that are no row of the model stay as they are.

    Lists of tokens that are not to be written lose those that are gone.
    """
    if not isinstance(config, Mapping):
        return config
    return {key: _value(key, value, new, rows) for key, value in config.items()}


def _value(key: str, value: Any, new: Ids, rows: int) -> Any:
    def one(i: Any) -> Any:
        return new.get(i, i) if isinstance(i, int) and not isinstance(i, bool) and i < rows else i

    if SINGLE.fullmatch(key):
        return [one(i) for i in value] if isinstance(value, list) else one(value)
    if key == "forced_decoder_ids" and isinstance(value, list):
        return [[place, one(i)] for place, i in value]
    if key.endswith(LISTS) and isinstance(value, list):
        return [new[i] for i in value if i in new]
    if key in SEQUENCES and isinstance(value, list):
        return [[new[i] for i in ids] for ids in value if all(i in new for i in ids)]
    if key == "sequence_bias" and isinstance(value, list):
        return [[[new[i] for i in ids], bias] for ids, bias in value if all(i in new for i in ids)]
    return trimmed_config(value, new, rows)
