"""The root command: knows every name, imports a command only when it is called.

Help and completion of the root list stand-ins made from the tables, so that neither imports a method.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from archtool import registry
from archtool.cli.table import COMMANDS, PANELS, STEP_PANEL
from archtool.errors import UsageError


def summaries() -> Mapping[str, tuple[str, str]]:
    """Every command → (summary, panel), in the order of the help."""
    steps = registry.entries("steps").values()
    found = {entry.name: (entry.summary or f"From the package {entry.package}.", STEP_PANEL) for entry in steps}
    found |= {name: (summary, panel) for name, (_, summary, panel) in COMMANDS.items()}
    return dict(sorted(found.items(), key=lambda item: PANELS.index(item[1][1])))


class LazyGroup(TyperGroup):
    """A group whose commands are imported on use."""

    _listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, by panel."""
        return list(summaries())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command; a stand-in with name and summary while listing."""
        known = summaries()
        if cmd_name not in known:
            return None
        if self._listing:
            summary, panel = known[cmd_name]
            return TyperCommand(cmd_name, help=summary, short_help=summary, rich_help_panel=panel)
        return build(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As the base class, with a suggestion for an unknown name."""
        if args[0] not in summaries() and not ctx.resilient_parsing:
            hint = registry.suggestion(args[0], summaries())
            raise UsageError(f"no such command `{args[0]}`", hint)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Help from the stand-ins."""
        with self._as_list():
            super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Completion from the stand-ins."""
        with self._as_list():
            return super().shell_complete(ctx, incomplete)

    @contextmanager
    def _as_list(self) -> Iterator[None]:
        self._listing = True
        try:
            yield
        finally:
            self._listing = False


def build(name: str) -> Any:
    """Import one command by its name."""
    if name in COMMANDS:
        found = registry.resolve(COMMANDS[name][0])
    else:
        from archtool.cli.verbs import step_app

        found = step_app(registry.lookup("steps", name))
    command = typer.main.get_command(found)
    command.name = name
    return command


def _version(wanted: bool) -> None:
    if wanted:
        from archtool import __version__

        typer.echo(f"archtool {__version__}")
        raise typer.Exit()


def root() -> Any:
    """The whole command line as one command object."""
    app = typer.Typer(cls=LazyGroup, name="archtool", add_completion=True, pretty_exceptions_enable=False)

    @app.callback(help="Make a transformer fit a budget, and prove what it costs.")
    def _root(
        version: Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
        ] = False,
    ) -> None:
        return None

    return typer.main.get_command(app)
