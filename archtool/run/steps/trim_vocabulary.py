"""``trim-vocabulary``: keep the tokens of a corpus, and write a tokenizer that has only these."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.config.fields import BudgetText, InputPaths, Names, Texts
from archtool.errors import InputError, UsageError
from archtool.run.step import Context, Estimate, Shared, State, Step, StepOptions, option

if TYPE_CHECKING:
    from collections import Counter

    from archtool.ir.edit import Edit
    from archtool.model.checkpoint import Checkpoint
    from archtool.transforms.vocabulary.corpus import Coverage
    from archtool.transforms.vocabulary.folder import TrimmableTokenizer

AXIS = "vocab"
TEXTS, TOKENS = 16, 64
"""How many passages, of how many tokens at most, are run through both models."""


class TrimVocabularyOptions(StepOptions):
    """Options of ``trim-vocabulary``; of several limits the smallest vocabulary counts."""

    corpus: InputPaths = option(..., "Text to count tokens in: files, as --data takes them.", panel="Input")
    text_columns: Names = option((), "Columns to count. Without any: all that hold text by their names.", panel="Input")
    header: str = option("auto", "Whether csv and tsv have a header: auto, yes, no.", panel="Input")
    keep: int | None = option(None, "Tokens to keep, special ones included.", panel="Budget", ge=1)
    min_count: int | None = option(None, "Keep what occurs at least this often.", panel="Budget", ge=1)
    coverage: float | None = option(
        None, "Keep the fewest tokens that make up this share of the corpus, such as 0.999.", panel="Budget", gt=0, le=1
    )
    budget: BudgetText | None = option(None, "What the result may cost, e.g. size=60MB.", panel="Budget")
    keep_text: Texts = option((), "A text whose tokens stay, such as a prompt; may be repeated.")


class TrimVocabulary(Step[TrimVocabularyOptions]):
    """Rows of the token table and of the output, and the tokenizer with them."""

    name: ClassVar[str] = "trim-vocabulary"
    Options = TrimVocabularyOptions
    summary: ClassVar[str] = "Keep only the tokens of a corpus, in the model and in its tokenizer."
    examples: ClassVar[tuple[str, str]] = (
        "archtool trim-vocabulary MiniLM --corpus stsb-en-train.csv --min-count 1",
        "archtool trim-vocabulary mt5-small --corpus german.txt --budget size=0.5x --keep-text 'summarize: '",
    )
    shared: ClassVar[tuple[Shared, ...]] = (
        "task", "data", "columns", "length", "threads", "device", "dtype", "require",
    )  # fmt: skip

    def estimate(self, state: State, options: TrimVocabularyOptions) -> Estimate:
        """One pass over the weights that stay."""
        from archtool.run.steps.editing import disk_estimate

        return disk_estimate(state)

    def run(self, state: State, options: TrimVocabularyOptions, context: Context) -> State:
        """Count, choose, cut, rewrite, and compare both models and both tokenizers."""
        from archtool.run.steps.editing import absolute, finish
        from archtool.transforms.vocabulary.corpus import corpus_texts, counted
        from archtool.transforms.vocabulary.folder import tokenizer_of

        checkpoint = state.checkpoint
        rows = _rows(checkpoint)
        if not any((options.keep, options.min_count, options.coverage, options.budget)):
            raise UsageError(
                "nothing says how many tokens to keep", "Give --keep, --min-count, --coverage or --budget."
            )
        budget = absolute(options.budget, state, context) if options.budget else None
        if budget is not None and budget.limit("latency"):
            raise UsageError("the vocabulary cannot be chosen by latency", "Give --budget size=… or params=….")
        tokenizer = tokenizer_of(checkpoint.source)
        texts = corpus_texts(options.corpus, options.text_columns, options.header)
        encoded = tokenizer.encode(texts)
        edit = _chosen(checkpoint, tokenizer, counted(encoded), options, budget, rows)
        child, kept, gone = _trimmed(checkpoint, tokenizer, edit, rows, context)
        found, worst = _compared(checkpoint, child, tokenizer, texts, encoded, kept)
        edit = replace(
            edit, notes=(*edit.notes, *gone, *_said(found, worst, len(tokenizer.pieces().tokens), len(kept)))
        )
        after = finish(state, edit, child, context, budget, self.name)
        return _recorded(replace(after, derived=None), found, worst, len(kept))


def _rows(checkpoint: Checkpoint) -> int:
    size = checkpoint.architecture.size
    if AXIS not in size:
        raise InputError("the model has no vocabulary", "Give a model that reads tokens.")
    others = [axis for axis in size if axis.endswith("_vocab") and "." not in axis]
    if others:
        hint = "A vocabulary that source and target share can be trimmed."
        raise InputError(f"the model has two vocabularies ({AXIS} and {others[0]})", hint)
    return size[AXIS]


def _chosen(
    checkpoint: Checkpoint, tokenizer: TrimmableTokenizer, counts: Counter[int], options: TrimVocabularyOptions,
    budget: Any, rows: int,
) -> Edit:  # fmt: skip
    """The selection of rows, within every limit."""
    from archtool.transforms.vocabulary.folder import purposes
    from archtool.transforms.vocabulary.limits import least_kept, row_edit, within
    from archtool.transforms.vocabulary.order import for_coverage, for_frequency, keep_order

    pieces = tokenizer.pieces()
    beyond = sorted(i for i in pieces.tokens if i >= rows)
    if beyond:
        has = f"the tokenizer has {len(pieces.tokens)} tokens, the model {rows} rows"
        what = f"{has} ({pieces.tokens[beyond[0]]!r} has none)"
        raise InputError(what, "Take the tokenizer that belongs to this model.")
    fixed = {i: why for i, why in purposes(checkpoint.source).items() if 0 <= i < rows}
    fixed |= least_kept(checkpoint.architecture)
    wanted = [i for row in tokenizer.encode(options.keep_text) for i in row]
    order, least = keep_order(pieces, counts, fixed, wanted)
    if options.keep is not None and options.keep > len(order):
        raise UsageError(f"--keep {options.keep}: the tokenizer has {len(order)} tokens", "Keep fewer.")
    wishes = [options.keep or len(order)]
    wishes += [for_frequency(order, counts, options.min_count)] if options.min_count else []
    wishes += [for_coverage(order, counts, options.coverage)] if options.coverage else []
    if options.keep is not None and options.keep < least:
        what = f"--keep {options.keep}: fewer than the {least} tokens that cannot be dropped"
        raise UsageError(what, "These are special tokens, bytes, and what configuration and --keep-text need.")
    n = max(least, min(wishes))
    if budget is not None:
        n = within(checkpoint, order, least, n, budget, counts)
    return row_edit(order[:n], rows, counts)


def _trimmed(
    checkpoint: Checkpoint, tokenizer: TrimmableTokenizer, edit: Edit, rows: int, context: Context
) -> tuple[Checkpoint, list[int], list[tuple[str, str]]]:
    """The smaller model with its own folder, the kept ids, and what did not travel along."""
    from archtool.model.apply import apply
    from archtool.transforms.vocabulary.folder import write_folder
    from archtool.transforms.vocabulary.limits import kept_ids
    from archtool.transforms.vocabulary.rewrite import trimmed_config

    child, kept = apply(checkpoint, edit), kept_ids(edit, rows)
    new = {i: place for place, i in enumerate(kept)}
    folder = context.work / "tokenizer"
    gone = write_folder(checkpoint.source, tokenizer, folder, new, rows)
    scored = folder / "tokenizer.bin"
    source = replace(
        child.source, folder=folder, tokenizer=scored if scored.is_file() else None,
        config=trimmed_config(child.source.config, new, rows),
    )  # fmt: skip
    return replace(child, source=source), kept, gone


def _compared(
    parent: Checkpoint, child: Checkpoint, tokenizer: TrimmableTokenizer, texts: list[str], encoded: list[list[int]],
    kept: list[int],
) -> tuple[Coverage, float | None]:  # fmt: skip
    """What the new tokenizer makes of the corpus, and how far the new model is from the old one on what survives."""
    from archtool.transforms.vocabulary.check import largest_difference
    from archtool.transforms.vocabulary.corpus import coverage, survivors
    from archtool.transforms.vocabulary.folder import reopened

    new = {i: place for place, i in enumerate(kept)}
    again = reopened(tokenizer, child.source.folder)  # type: ignore[arg-type]
    found = coverage(encoded, again.encode, texts, new, child.source.folder)  # type: ignore[arg-type]
    length = min(TOKENS, int(parent.architecture.fact.get("max_positions", TOKENS)))
    return found, largest_difference(parent, child, survivors(encoded, new, TEXTS, length), kept)


def _said(found: Coverage, worst: float | None, before: int, after: int) -> list[tuple[str, str]]:
    """Lines for the report."""
    said = f"{found.kept} of {found.tokens} tokens of the corpus stay; it has {found.tokens_after} tokens now"
    texts = f"{found.identical} of {found.texts} texts are cut as before"
    same = (
        "no token of the corpus stays" if worst is None else f"outputs on passages of kept tokens differ by {worst:.3g}"
    )
    return [("vocabulary", f"{after} of {before} tokens; {said}; {texts}; {same}")]


def _recorded(state: State, found: Coverage, worst: float | None, kept: int) -> State:
    metrics = {
        "vocabulary": float(kept), "token_coverage": found.kept / found.tokens,
        "texts_identical": found.identical / found.texts, "corpus_tokens_ratio": found.tokens_after / found.tokens,
    }  # fmt: skip
    metrics |= {} if worst is None else {"survivors_max_abs_diff": worst}
    shown = {
        name: {"value": metrics[name], "stderr": None, "higher_is_better": True}
        for name in ("token_coverage", "texts_identical")
    }
    child = {**state.records["child"], "metrics": {**state.records["child"]["metrics"], **shown}}
    return replace(state, metrics={**state.metrics, **metrics}, records={**state.records, "child": child})
