"""Byte-pair merges of one piece: which tokens lie on the way to it.

A pair is merged where it has the lowest rank, leftmost first. Inside the span of a token that a text ends up with, the
merges are those of the token's own text, whatever stands around it: a pair across its border was never the lowest, or
the token would not be there. So a tokenizer that keeps a token and all tokens on its way makes it as before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Rank = Callable[[str, str], float | None]
"""Rank of a pair of adjacent symbols (the lowest goes first), or None where they do not merge."""


def merged(symbols: Sequence[str], rank: Rank) -> tuple[list[str], list[str]]:
    """The symbols after all merges, and the results of the merges in the order in which they were made."""
    left, made = list(symbols), list[str]()
    while True:
        ranked = [(r, i) for i in range(len(left) - 1) if (r := rank(left[i], left[i + 1])) is not None]
        if not ranked:
            return left, made
        _, i = min(ranked)
        left[i : i + 2] = [left[i] + left[i + 1]]
        made.append(left[i])


def way(piece: str, symbols: Sequence[str], rank: Rank) -> list[str]:
    """All tokens from the symbols to the piece, itself last; nothing where the merges do not lead there."""
    left, made = merged(symbols, rank)
    return [*symbols, *made] if left == [piece] else []
