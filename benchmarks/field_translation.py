"""A real encoder-decoder writes its published words: OpenNMT's transliterator, from Arabic to Latin letters.

python benchmarks/field_translation.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from common import NoData, archtool, arguments, emit, shared, skip

WORDS = {"آتزمون": "atzmon", "آتشيسون": "achison"}
"""From the README of the data, and from CTranslate2's own tests of this model."""


def main() -> None:
    """Print every claim; those without data are skipped."""
    arguments(__doc__).parse_args()
    try:
        transliterate()
    except NoData as why:
        skip(("field.aren.wrong_words", "field.aren.loss"), why)


def transliterate() -> None:
    """The words and the loss per letter, by the command line."""
    model = shared("aren_transliteration")
    told = [row["output"] for row in archtool("generate", model, *WORDS, "--json").json()]
    wrong = sum(a != b for a, b in zip(told, WORDS.values(), strict=True))
    emit("field.aren.wrong_words", wrong, note=f"{', '.join(WORDS)} → {', '.join(told)}")
    with tempfile.TemporaryDirectory() as folder:
        pairs = Path(folder) / "pairs.tsv"
        rows = (f"{source}\t{target}\n" for source, target in WORDS.items())
        pairs.write_text("source\ttarget\n" + "".join(rows), encoding="utf-8")
        found = archtool("eval", model, "--task", "translation", "--data", pairs, "--json").json()
    emit("field.aren.loss", found["loss"], note=f"{found['tokens']:g} letters, exact match {found['exact_match']:g}")


if __name__ == "__main__":
    main()
