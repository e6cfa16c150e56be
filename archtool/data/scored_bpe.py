"""Byte-pair merging by score, from the tokenizer files of llama2.c.

File: int32 longest piece, then per id float32 score, int32 length, the piece's bytes. A leading space is
added, characters without a piece fall back to ``<0xNN>``, and the adjacent pair whose joined piece scores
best is merged first (leftmost on ties). Ids 1 and 2 are BOS and EOS, as in sentencepiece's Llama files.
"""

import heapq
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from archtool.errors import InputError

BOS = 1


@dataclass(frozen=True)
class ScoredBPE:
    """Pieces and scores by id."""

    pieces: tuple[bytes, ...]
    scores: tuple[float, ...]

    @property
    def vocabulary_size(self) -> int:
        """How many ids there are."""
        return len(self.pieces)

    @cached_property
    def ids(self) -> dict[bytes, int]:
        """The id of each piece (the lowest where one occurs twice)."""
        return {piece: place for place, piece in reversed(list(enumerate(self.pieces)))}

    def encode(self, text: str, bos: bool | None = None) -> list[int]:
        """Ids, with BOS in front unless ``bos`` is False."""
        start = [] if bos is False else [BOS]
        return [*start, *self._merge(self._characters(" " + text))] if text else start

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; the leading space after BOS is removed again."""
        joined = b"".join(self._bytes(place) for place in ids if place not in (BOS, BOS + 1))
        return joined.decode(errors="replace").removeprefix(" ")

    def _bytes(self, place: int) -> bytes:
        found = re.fullmatch(rb"<0x([0-9A-F]{2})>", self.pieces[place])
        return bytes([int(found[1], 16)]) if found else self.pieces[place]

    def _characters(self, text: str) -> list[int]:
        out: list[int] = []
        for char in text:
            piece = self.ids.get(char.encode())
            out += [piece] if piece is not None else [self.ids[b"<0x%02X>" % byte] for byte in char.encode()]
        return out

    def _merge(self, ids: list[int]) -> list[int]:
        """Merge best pairs first; a heap holds candidates, ``after``/``before`` link the living positions."""
        after = [*range(1, len(ids)), -1]
        before = [*range(-1, len(ids) - 1)]
        heap: list[tuple[float, int, int, int, int]] = []

        def offer(left: int) -> None:
            right = after[left] if left >= 0 else -1
            if right >= 0:
                joined = self.ids.get(self.pieces[ids[left]] + self.pieces[ids[right]])
                if joined is not None:
                    heapq.heappush(heap, (-self.scores[joined], left, joined, ids[left], ids[right]))

        for left in range(len(ids)):
            offer(left)
        while heap:
            _, left, joined, id_left, id_right = heapq.heappop(heap)
            right = after[left]
            if ids[left] != id_left or right < 0 or ids[right] != id_right:
                continue
            ids[left], ids[right] = joined, -1
            after[left] = after[right]
            if after[left] >= 0:
                before[after[left]] = left
            offer(before[left])
            offer(left)
        return [place for place in ids if place >= 0]


def read_scored_bpe(path: Path) -> ScoredBPE:
    """The tokenizer of a file; a missing, truncated or incomplete one is an `InputError`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", "give the tokenizer's file") from error
    pieces: list[bytes] = []
    scores: list[float] = []
    place = 4
    while place < len(content):
        if place + 8 > len(content):
            raise _damaged(path, len(pieces))
        score, length = struct.unpack_from("<fi", content, place)
        place += 8 + length
        if length < 0 or place > len(content):
            raise _damaged(path, len(pieces))
        pieces.append(content[place - length : place])
        scores.append(score)
    fallback = {b"<0x%02X>" % byte for byte in range(256)}
    if len(pieces) < 3 or not fallback <= set(pieces):
        raise InputError(f"{path}: not a scored-BPE tokenizer with byte fallback", "see the file's format")
    return ScoredBPE(tuple(pieces), tuple(scores))


def _damaged(path: Path, piece: int) -> InputError:
    return InputError(f"{path}: ends in the middle of piece {piece}", "the file is truncated or damaged")
