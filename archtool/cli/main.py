"""The entry point: runs a command and is the only place that turns exceptions into exit codes.

0 done · 1 bug · 2 usage · 3 recipe · 4 model or data · 5 resources · 6 budget · 7 quality gate ·
8 output differs · 130 interrupted.
"""

import errno
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from archtool.cli.show_error import show_error
from archtool.errors import ArchtoolError, ResourceError, UsageError

INTERRUPTED = 130
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


def main() -> None:
    """Run the command line of this process and exit."""
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors are shown on stderr."""
    try:
        return _call(list(argv) or ["--help"])
    except ArchtoolError as error:
        return show_error(error)
    except (KeyboardInterrupt, typer.Abort):
        return show_error(ArchtoolError("interrupted"), INTERRUPTED)
    except MemoryError:
        return show_error(ResourceError("out of memory", "try a smaller --batch or --length"))
    except BrokenPipeError:
        return 0
    except OSError as error:
        return _disk(error) if error.errno in DISK_ERRORS else _bug(error)
    except Exception as error:  # the outermost handler: everything unforeseen is a bug, saved to a file
        usage = _usage(error)
        return show_error(usage) if usage is not None else _bug(error)


def _call(argv: list[str]) -> int:
    from archtool.cli.app import root

    code = root().main(args=argv, prog_name="archtool", standalone_mode=False)
    if code == INTERRUPTED:
        show_error(ArchtoolError("interrupted"))
    return code if isinstance(code, int) else 0


def _usage(error: Any) -> UsageError | None:
    """The parser's own complaint in our form (its class is the base of `typer.BadParameter`)."""
    parser_error: type = typer.BadParameter.__mro__[1]
    if not isinstance(error, parser_error):
        return None
    complaint: Any = error
    context = getattr(complaint, "ctx", None)
    see = f"see {context.command_path} --help" if context is not None else "see archtool --help"
    close = list(getattr(complaint, "possibilities", None) or ())
    message = complaint.message if close else complaint.format_message()
    what = message[:1].lower() + message[1:].rstrip(".")
    return UsageError(what, f"did you mean {' or '.join(close)}? ({see})" if close else see)


def _disk(error: OSError) -> int:
    place = f" {error.filename}" if error.filename else ""
    what = f"cannot read or write{place}: {error.strerror}"
    return show_error(ResourceError(what, "check free space and permissions, or give another --out"))


def _bug(error: BaseException) -> int:
    name = f"archtool-bug-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    what = f"a bug in archtool: {type(error).__name__}: {error}"
    text = "".join(traceback.format_exception(error))
    try:
        path = Path(tempfile.gettempdir()) / name
        path.write_text(f"archtool {' '.join(sys.argv[1:])}\n\n{text}", encoding="utf-8")
    except OSError:
        return show_error(ArchtoolError(f"{what}\n{text}"))
    hint = f"the traceback is in {path}; please report it with the output of `archtool doctor`"
    return show_error(ArchtoolError(what, hint))


if __name__ == "__main__":
    main()
