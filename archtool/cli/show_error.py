"""How an error looks: what, where (with the line and a caret), and a remedy."""

from archtool.errors import ArchtoolError, ErrorList, Where
from archtool.run.processes import is_main


def show_error(error: ArchtoolError, code: int | None = None) -> int:
    """Print an error (or each of several) on stderr and return its exit code; of several processes one does."""
    from rich.console import Console

    if not is_main():
        return error.exit_code if code is None else code
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    errors = error.errors if isinstance(error, ErrorList) else [error]
    for index, single in enumerate(errors):
        if index:
            console.print()
        for line in error_lines(single):
            style = "bold red" if line.startswith("error:") else "cyan" if line.startswith("hint:") else None
            console.print(line, style=style)
    return error.exit_code if code is None else code


def error_lines(error: ArchtoolError) -> list[str]:
    """The lines of one error."""
    lines = [f"error: {error.what}"]
    if error.where is not None:
        lines += _place(error.where)
    return [*lines, f"hint: {error.hint}"] if error.hint else lines


def _place(where: Where) -> list[str]:
    lines = [f"  --> {where.file}:{where.line}:{where.column}"]
    if where.text:
        text = where.text.replace("\t", " ").rstrip()
        lines += [f"  | {text}", f"  | {' ' * (where.column - 1)}^"]
    return lines
