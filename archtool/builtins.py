"""The table of everything that ships with archtool: kind → name → (``module:attribute``, summary).

One line here and one file is all that a built-in needs. Nothing in the table is imported before it is used,
so summaries stand here and ``archtool --help`` stays fast. A step's name is its command-line verb.
"""

from collections.abc import Mapping

Table = Mapping[str, tuple[str, str]]

FAMILIES: Table = {}

OPERATORS: Table = {}

STEPS: Table = {
    "train": ("archtool.run.steps.train:Train", "Train a model on data with the loss of its task."),
    "recover": ("archtool.run.steps.recover:Recover", "Distil the parent into the current model."),
}

TRANSFORMS: Table = {}

SEARCHERS: Table = {}

RUNTIMES: Table = {}

TASKS: Table = {}

REPORT_PANELS: Table = {}

BUILTINS: Mapping[str, Table] = {
    "families": FAMILIES,
    "operators": OPERATORS,
    "steps": STEPS,
    "transforms": TRANSFORMS,
    "searchers": SEARCHERS,
    "runtimes": RUNTIMES,
    "tasks": TASKS,
    "report_panels": REPORT_PANELS,
}
