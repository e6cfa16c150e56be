"""All commands that are not steps: name → (``module:app``, summary, help panel).

Steps come from the registry and get their commands from `archtool.cli.verbs`.
"""

from collections.abc import Mapping

COMMANDS: Mapping[str, tuple[str, str, str]] = {
    "inspect": ("archtool.cli.commands.inspect:app", "Show a checkpoint block by block.", "Look"),
    "generate": ("archtool.cli.commands.generate:app", "Show what a model writes for a text.", "Look"),
    "verify": ("archtool.cli.commands.verify:app", "Compare a written model with the one in memory.", "Look"),
    "quickstart": ("archtool.cli.commands.quickstart:app", "Run the shipped example end to end.", "Run"),
    "run": ("archtool.cli.commands.run:app", "Run a recipe: model, data and steps in one file.", "Run"),
    "build": ("archtool.cli.commands.build:app", "Write a published architecture with random weights.", "Run"),
    "report": ("archtool.cli.commands.report:app", "Write the report of a run directory again.", "Run"),
    "recipes": ("archtool.cli.commands.recipes:app", "List, show, copy and check recipes.", "Run"),
    "families": ("archtool.cli.commands.families:app", "List the families of checkpoints.", "About"),
    "operators": ("archtool.cli.commands.operators:app", "List the operators with their axes.", "About"),
    "plugins": ("archtool.cli.commands.plugins:app", "List everything that is registered.", "About"),
    "doctor": ("archtool.cli.commands.doctor:app", "Describe this installation and machine.", "About"),
}

STEP_PANEL = "Methods"
PANELS = (STEP_PANEL, "Look", "Run", "About")
"""The order of the help panels."""
