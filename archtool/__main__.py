"""``python -m archtool``: the command line."""

from archtool.cli.main import main

main()
