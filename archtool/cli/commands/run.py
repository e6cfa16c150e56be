"""``archtool run RECIPE``: the general form of every verb."""

import inspect
import sys
from typing import Annotated, Any

import typer

from archtool.cli.flags import Common, common_parameters, examples, new_app, with_parameters

app = new_app()


def _run(values: dict[str, Any]) -> None:
    from archtool.cli.runner import execute
    from archtool.config.load import read_recipe
    from archtool.config.shipped import find_recipe

    common = Common.take(values)
    seed = [] if common.seed is None else [f"seed={common.seed}"]
    recipe = read_recipe(find_recipe(values["recipe"]), (*common.sets, *seed))
    execute(recipe, common, tuple(sys.argv))


RECIPE = inspect.Parameter(
    "recipe",
    inspect.Parameter.KEYWORD_ONLY,
    annotation=Annotated[str, typer.Argument(metavar="RECIPE", help="A file, or the name of a shipped recipe.")],
)

app.command(
    "run",
    epilog=examples("archtool run quickstart", "archtool run my.yaml --set steps.0.prune.budget=params=0.4x"),
)(with_parameters(_run, [RECIPE, *common_parameters()], "Run a recipe: model, data and steps in one file."))
