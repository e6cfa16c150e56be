"""Every numbered claim of the product: which command measures it, what it must be, and what that costs.

A command is a file of this folder that prints one JSON line per claim: ``{"claim": …, "value": …}`` with, where it
has them, ``spread`` (over seeds or rounds), ``seeds``, ``note``, or ``skipped`` (why there is no value). Where a
command prints a claim under a name of its own, ``Claim.printed`` is the pattern of that name.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from common import ROOT  # noqa: F401  (puts the checkout on the path)

from archtool.builtins import CONSTRUCTS, OPERATORS

Compare = Literal["<=", "<", ">=", "==", "within", "reported"]


@dataclass(frozen=True)
class Command:
    """One file of this folder.

    Attributes:
        file: its name.
        core_hours: what its full form takes on one core.
        quick: whether it has a shorter ``--quick`` form that measures a stand-in; without one, both are the same.
    """

    file: str
    core_hours: float
    quick: bool = False


@dataclass(frozen=True)
class Claim:
    """One number.

    Attributes:
        id: ``<issue>.<item>.<what>``.
        command: what prints it.
        goal: the goal in words.
        compare: how the value is compared with ``target``; ``reported`` has no goal.
        target: the bound, or the middle of ``within``.
        tolerance: of ``within``.
        printed: pattern of the name under which the command prints it; empty: ``id``.
    """

    id: str
    command: Command
    goal: str
    compare: Compare
    target: float = 0.0
    tolerance: float = 0.0
    printed: str = ""

    def matches(self, name: str) -> bool:
        """Whether a printed name is this claim."""
        return fnmatchcase(name, self.printed or self.id)

    def passes(self, value: float) -> bool | None:
        """Whether a value meets the goal; None where nothing is demanded."""
        outcomes = {
            "<=": value <= self.target,
            "<": value < self.target,
            ">=": value >= self.target,
            "==": value == self.target,
            "within": abs(value - self.target) <= self.tolerance,
        }
        return outcomes.get(self.compare)


QUICKSTART = Command("spine_quickstart.py", 0.1)
TESTS = Command("spine_tests.py", 0.5, quick=True)
PARITY = Command("spine_parity.py", 0.1)
REAL = Command("spine_real.py", 0.1)
EXPORT = Command("spine_export.py", 0.1)
LARGE = Command("large.py", 0.2, quick=True)
CLI = Command("spine_cli.py", 0.02)
BAD_INPUT = Command("spine_bad_input.py", 0.05)
REPEAT = Command("spine_repeat.py", 0.05)
TABLE = Command("latency_table.py", 0.5, quick=True)
SERIES = Command("field_series.py", 0.1)
TRANSLATION = Command("field_translation.py", 0.02)
PARENTS = Command("parents.py", 0.0, quick=True)
FIELD_OPERATORS = Command("field_operators.py", 0.2)

FAMILIES = (
    "bert", "roberta", "distilbert", "vit", "deit", "timm_vit", "gpt2", "llama", "mistral", "qwen2", "qwen3",
    "gemma2", "phi3",
)  # fmt: skip
"""Under which names `spine_parity` reports the families of the issue (MiniLM is a BERT)."""

MODELS = ("pruned_minilm", "int8_minilm", "ragged_llama")
VITS = ("vit-a", "vit-b", "vit-c", "vit-d", "vit-e")
GPTS = ("gpt-a", "gpt-b", "gpt-c")
FORECASTS = {96: 0.38149, 192: 0.41361, 336: 0.43091, 720: 0.44952}
"""Horizon → mean squared error that PatchTST's own code gives on ETTh1."""

CLAIMS: tuple[Claim, ...] = (
    Claim("spine.1.quickstart_seconds", QUICKSTART, "the quickstart recipe in under 2 minutes on 2 cores", "<", 120),
    Claim("spine.1.quickstart_exit_code", QUICKSTART, "it ends with exit code 0", "==", 0),
    Claim("spine.1.quickstart_budgets_missed", QUICKSTART, "every budget of the recipe is met", "==", 0),
    Claim("spine.1.quickstart_reload_max_abs_diff", QUICKSTART, "the written model, reloaded: ≤ 1e-5", "<=", 1e-5),
    Claim("spine.1.quickstart_onnx_max_abs_diff", QUICKSTART, "its ONNX file in ONNX Runtime: ≤ 1e-5", "<=", 1e-5),
    Claim("spine.1.quickstart_accuracy_before", QUICKSTART, "test accuracy of the trained model", "reported"),
    Claim("spine.1.quickstart_accuracy_after", QUICKSTART, "test accuracy of the model within the budget", "reported"),
    Claim("spine.1.tests_failed", TESTS, "the README's second command passes the tests", "==", 0),
    *(
        Claim(f"spine.2.{name}_max_abs_diff", PARITY, f"{name}: outputs equal transformers' within 1e-5", "<=", 1e-5)
        for name in FAMILIES
    ),
    Claim("spine.2.fewest_configurations", PARITY, "at least 3 random configurations of each family", ">=", 3),
    Claim("spine.2.families_with_wrong_order_test", PARITY, "a wrong head order is seen in each family file", ">=", 10),
    Claim("spine.2.identity_failed", PARITY, "from_hf ∘ to_hf is the identity, byte for byte", "==", 0),
    Claim("spine.2.tests_failed", PARITY, "no test of the families fails", "==", 0),
    Claim("spine.3.minilm_sts_test_spearman", REAL, "0.8203 ± 0.0002", "within", 0.8203, 0.0002),
    Claim("spine.3.minilm_sts_dev_spearman", REAL, "0.8672 ± 0.0002", "within", 0.8672, 0.0002),
    Claim("spine.3.stories260k_loss", REAL, "1.266 nats per token (± 0.0005)", "within", 1.266, 0.0005),
    Claim("spine.3.stories260k_greedy_differs", REAL, "the published greedy text, to the letter", "==", 0),
    Claim("spine.3.minilm_onnx_max_abs_diff", REAL, "ONNX Runtime agrees with torch to 1e-5", "<=", 1e-5),
    Claim("spine.3.minilm_onnx_sts_test_spearman", REAL, "and keeps 0.8203 ± 0.0002", "within", 0.8203, 0.0002),
    *(
        Claim(f"spine.4.{name}_max_abs_diff", EXPORT, f"{name}: fresh process without archtool: ≤ 1e-5", "<=", 1e-5)
        for name in MODELS
    ),
    *(
        Claim(f"spine.4.{name}_bytes_off", EXPORT, f"{name}: the file is smaller by what the report says", "==", 0)
        for name in MODELS
    ),
    Claim("spine.4.masked_parent_max_rel_diff", EXPORT, "sliced equals masked on every axis: ≤ 1e-5", "<=", 1e-5),
    Claim("spine.5.inspect_seconds", LARGE, "inspect of 20 GB in under 2 s", "<", 2, printed="inspect of *: seconds"),
    Claim("spine.5.inspect_peak_mb", LARGE, "in under 300 MB", "<", 300, printed="inspect of *: peak memory"),
    Claim("spine.5.inspect_imports_torch", LARGE, "without importing torch", "==", 0,
          printed="inspect of *: imports torch"),
    Claim("spine.5.prune_int8_peak_gb", LARGE, "prune and int8 of 8 GB in under 3 GB", "<", 3,
          printed="prune + int8, one recipe, *: peak memory"),
    Claim("spine.5.prune_int8_speed_ratio_vs_copy", LARGE, "at no less than half the speed of copying", ">=", 0.5,
          printed="prune + int8, one recipe, *: speed over copying"),
    Claim("spine.6.help_seconds", CLI, "archtool --help in under 0.5 s", "<", 0.5),
    Claim("spine.6.completion_seconds", CLI, "completion in under 0.5 s", "<", 0.5),
    Claim("spine.6.help_imports_torch", CLI, "--help imports no torch", "==", 0),
    Claim("spine.6.completion_imports_torch", CLI, "completion imports no torch", "==", 0),
    Claim("spine.6.commands_without_json", CLI, "every command has --json", "==", 0),
    Claim("spine.6.writing_commands_without_dry_run", CLI, "every command that writes has --dry-run", "==", 0),
    Claim("spine.6.commands_without_two_examples", CLI, "every command has two examples in its help", "==", 0),
    Claim("spine.7.bad_input_failed", BAD_INPUT, "each bad input gives its message and exit code", "==", 0),
    Claim("spine.7.bad_input_passed", BAD_INPUT, "at least 15 cases are tested", ">=", 15),
    Claim("spine.7.bad_input_skipped", BAD_INPUT, "none is skipped", "==", 0),
    Claim("spine.7.distinct_hashes", REPEAT, "run twice, and killed and resumed: one tensor hash", "==", 1),
    *(
        Claim(f"spine.latency_table.{model}.{runtime}.{part}_pct", TABLE,
              f"{part} prediction error of whole models, {model} in {runtime}", "reported",
              printed=f"latency-table.{model}.{runtime}.error_{part}_pct")
        for model in ("minilm", "vit") for runtime in ("onnxruntime", "torch") for part in ("median", "p95")
    ),
    *(
        Claim(f"field.patchtst.{horizon}", SERIES, f"MSE {mse} ± 1e-4, {horizon} rows ahead", "within", mse, 1e-4)
        for horizon, mse in FORECASTS.items()
    ),
    Claim("field.aren.wrong_words", TRANSLATION, "the transliterator writes its published words", "==", 0),
    Claim("field.aren.loss", TRANSLATION, "0.145023 nats per letter, as published (± 1e-4)", "within", 0.145023, 1e-4),
    *(
        Claim(f"parents.{name}.accuracy", PARENTS, f"{name}: at least 90 % on Fashion-MNIST's test set", ">=", 0.9)
        for name in VITS
    ),
    *(Claim(f"parents.{name}.loss", PARENTS, f"{name}: nats per byte on the test text", "reported") for name in GPTS),
)  # fmt: skip


CLAIMS += tuple(
    Claim(
        f"field.operator.{kind}", FIELD_OPERATORS, f"{kind}: prune, int8, extract, export and reload: 0 fail", "==", 0
    )
    for kind in (*OPERATORS, *CONSTRUCTS)
)


FIELD_GROUPS = Command("field_groups.py", 0.1)
FIELD_SPEED = Command("field_speed.py", 0.3, quick=True)
FIELD = (
    "swin", "segformer", "pvt_v2", "poolformer", "convnext", "mobilevit", "mobilevitv2", "t5", "marian", "patchtst",
    "mamba",
)  # fmt: skip
CLAIMS += tuple(
    claim for name in FIELD for claim in (
        Claim(f"field.groups.{name}.ours_wrong", FIELD_GROUPS, f"{name}: every axis equals its masked parent", "==", 0),
        Claim(f"field.groups.{name}.disagreements", FIELD_GROUPS, f"{name}: torch-pruning's groups differ", "reported"),
    )
)  # fmt: skip
CLAIMS += tuple(
    Claim(
        f"field.speed.{name}",
        FIELD_SPEED,
        f"{name}: processor time of a pass over transformers' own: ≤ 1.05",
        "<=",
        1.05,
    )
    for name in ("vit", "bert", *FIELD)
)


VOCABULARY = Command("prune_vocabulary.py", 0.1)
CLAIMS += (
    Claim("prune.9.spearman_dev_change", VOCABULARY, "MiniLM with STS-B's words only: dev unchanged", "==", 0),
    Claim("prune.9.spearman_test_change", VOCABULARY, "test unchanged", "==", 0),
    Claim("prune.9.spearman_test", VOCABULARY, "0.8203 ± 0.0002", "within", 0.8203, 0.0002),
    Claim("prune.9.texts_not_identical", VOCABULARY, "every sentence gives the same tokens and text", "==", 0),
    Claim("prune.9.size_mb_before", VOCABULARY, "MB of weights before", "reported"),
    Claim("prune.9.size_mb_after", VOCABULARY, "MB of weights after", "reported"),
    Claim("prune.9.vocabulary_after", VOCABULARY, "tokens of STS-B, special ones included", "reported"),
    Claim("prune.9.fresh_differs", VOCABULARY, "in a fresh process without archtool: hidden states ≤ 1e-5", "<=", 1e-5),
    Claim("prune.9.half_coverage", VOCABULARY, "half as many tokens, by the training split: share kept", "reported"),
    Claim("prune.9.half_spearman_test", VOCABULARY, "and test Spearman with these", "reported"),
)  # fmt: skip


TRAIN_RESUME = Command("train_resume.py", 0.1, quick=True)
CLAIMS += (
    Claim("nested.6.distinct_hashes", TRAIN_RESUME, "killed at random steps, resumed: one hash", "==", 1),
    Claim("nested.6.loss_difference_sgd", TRAIN_RESUME, "SGD in two processes: losses within 1e-4 of one", "<=", 1e-4),
    Claim("nested.6.loss_difference_adamw", TRAIN_RESUME, "AdamW in two processes: within 1e-3 of one", "<=", 1e-3),
)  # fmt: skip
NESTED_COST = Command("nested_cost.py", 0.1, quick=True)
CLAIMS += tuple(
    claim for model in ("vit", "llama") for claim in (
        *(
            Claim(f"nested.7.{model}.{kinds}.{what}", NESTED_COST, f"{model}, {kinds}: {goal}", "<=", most)
            for kinds in ("ffn", "ffn-heads-width") for what, goal, most in (
                ("step_over_sum", "a nested step over its granularities alone: ≤ 1.15", 1.15),
                ("views_over_plain", "a submodel on views over a plain module: ≤ 1.10", 1.10),
            )
        ),
        Claim(f"nested.7.{model}.switch_ms", NESTED_COST, f"{model}, 12 blocks: switching submodels: ≤ 1 ms", "<=", 1),
    )
)  # fmt: skip


NESTED_MINILM = Command("nested_minilm.py", 0.1, quick=True)
CLAIMS += (
    Claim("nested.5.order.largest_drop", NESTED_MINILM, "order alone: 4 sizes to 60 %: ≤ 2 points on dev", "<=", 2),
    *(
        Claim(f"nested.5.order.spearman_{level:g}", NESTED_MINILM, f"MiniLM at {level:.0%}, in order: dev", "reported")
        for level in (0.6, 0.75, 0.9)
    ),
)  # fmt: skip


NESTED_QUALITY = Command("nested_quality.py", 0.7, quick=True)
NEAR_TWIN = {
    "fashion": ("at most 0.5 points below a twin trained alone", 0.5),
    "shakespeare": ("loss at most 1.5 % above a twin trained alone", 1.5),
}
CLAIMS += tuple(
    claim for task, (goal, most) in NEAR_TWIN.items() for claim in (
        *(
            Claim(f"nested.1.{task}.level{level}", NESTED_QUALITY, f"{task}, ffn × {share}: {goal}", "<=", most)
            for level, share in enumerate(("1/8", "1/4", "1/2", "1"))
        ),
        Claim(f"nested.1.{task}.mixed", NESTED_QUALITY,
              f"{task}: mixed widths on or above the line through the uniform ones (points or % below it)", "<=", 0.0),
    )
)  # fmt: skip


EXTRACT = Command("nested_extract.py", 0.6, quick=True)
EXTRACT_LARGE = Command("nested_extract_large.py", 0.1, quick=True)
NESTED_TASKS = ("fashion", "shakespeare")
CLAIMS += tuple(
    claim for task in NESTED_TASKS for claim in (
        Claim(f"nested.2.{task}.exact_share", EXTRACT, f"{task}: the optimum of 1,024 for ≥ 75 % of 24 budgets", ">=",
              0.75),
        Claim(f"nested.2.{task}.mean_regret_pct", EXTRACT, f"{task}: mean regret ≤ 0.5 % of the loss range", "<=", 0.5),
        Claim(f"nested.2.{task}.evaluations_share", EXTRACT, f"{task}: ≤ 5 % of brute force for all budgets", "<=",
              0.05),
        *(Claim(f"nested.2.{task}.{name}_regret_pct", EXTRACT, f"{task}: mean regret of {name} choice", "reported")
          for name in ("matformer", "uniform", "random")),
        Claim(f"nested.3.{task}.views_max_rel_diff", EXTRACT, f"{task}: extracted equals views: ≤ 1e-6", "<=", 1e-6),
        Claim(f"nested.3.{task}.masked_max_rel_diff", EXTRACT, f"{task}: and the masked parent: ≤ 1e-5", "<=", 1e-5),
        Claim(f"nested.3.{task}.fresh_max_rel_diff", EXTRACT, f"{task}: reloaded in a fresh process: ≤ 1e-6", "<=",
              1e-6),
        Claim(f"nested.3.{task}.bytes_off", EXTRACT, f"{task}: its file has its own bytes and no others", "==", 0),
        Claim(f"nested.3.{task}.twin_kl_over_extracted", EXTRACT, f"{task}: nearer the parent than a twin (KL)", ">=",
              1),
        Claim(f"nested.3.{task}.top1_gain", EXTRACT, f"{task}: and in equal answers", ">=", 0),
    )
)  # fmt: skip
CLAIMS += (
    Claim("nested.4.extract_time_over_copy", EXTRACT_LARGE,
          "a third of 4 GB cut in ≤ 1.5 times the time of copying it, started", "<=", 1.5),
    Claim("nested.4.command_time_over_copy", EXTRACT_LARGE, "the same, the whole command with its start", "reported"),
    Claim("nested.4.peak_gb", EXTRACT_LARGE, "peak memory under 1 GB", "<", 1),
)  # fmt: skip


NESTED_DRAFT = Command("nested_draft.py", 0.15, quick=True)
CLAIMS += (
    Claim("nested.8.acceptance_gain", NESTED_DRAFT, "an extracted draft's tokens are taken more often than a twin's",
          ">=", 0),
    Claim("nested.8.acceptance_rate", NESTED_DRAFT, "how often: ffn × 1/4 for the whole model", "reported"),
    Claim("nested.8.greedy_tokens_per_call", NESTED_DRAFT, "and tokens per pass of the whole model", "reported"),
    Claim("nested.8.retrieval_gain", NESTED_DRAFT,
          "MiniLM at 60 % as query encoder: recall@1 in the whole's index over that in its own", "reported"),
    Claim("nested.8.retrieval_recall_at_1", NESTED_DRAFT, "and recall@1 itself", "reported"),
)  # fmt: skip


def commands() -> tuple[Command, ...]:
    """Every command once, in the order of its first claim."""
    return tuple(dict.fromkeys(claim.command for claim in CLAIMS))


def claims_of(command: Command) -> tuple[Claim, ...]:
    """What a command must print."""
    return tuple(claim for claim in CLAIMS if claim.command == command)
