"""Which tokens stay: the fixed ones, then the most frequent of a corpus, each behind the tokens on the way to it.

Every beginning of the order is a vocabulary that works, so that a number of tokens, a frequency, a share of the corpus
and a budget are all one choice: where the order is cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from archtool.transforms.vocabulary.pieces import Pieces


def keep_order(
    pieces: Pieces, counts: Mapping[int, int], fixed: Iterable[int], wanted: Iterable[int] = ()
) -> tuple[list[int], int]:
    """All tokens in the order in which they are kept, and how many of them cannot be dropped.

    Args:
        counts: id → occurrences in the corpus; the rest count 0. Ties: the lower id first.
        fixed: ids that stay for other reasons than the tokenizer's own.
        wanted: ids that stay with what is on the way to them.
    """
    order = dict.fromkeys(sorted({*pieces.fixed, *fixed}))
    for place in wanted:
        order.update(dict.fromkeys((*pieces.way(place), place)))
    least = len(order)
    for place in sorted(pieces.tokens, key=lambda i: (-counts.get(i, 0), i)):
        if place not in order:
            order.update(dict.fromkeys((*pieces.way(place), place)))
    return list(order), least


def for_frequency(order: Sequence[int], counts: Mapping[int, int], least: int) -> int:
    """Tokens to keep so that all that occur at least ``least`` times are among them."""
    return max((n for n, i in enumerate(order, 1) if counts.get(i, 0) >= least), default=0)


def for_coverage(order: Sequence[int], counts: Mapping[int, int], share: float) -> int:
    """The fewest tokens that make up at least this share of the corpus."""
    missing = sum(counts.values()) * share - 1e-9
    for n, i in enumerate(order, 1):
        missing -= counts.get(i, 0)
        if missing <= 0:
            return n
    return len(order)
