"""The run engine: a recipe's steps in order, with a run directory, a journal, resume and provenance.

This package's own namespace is torch-free and pydantic-free to import; step files import `Step`, `State`,
`Context`, `Estimate` and `option` from `archtool.run.step`.
"""
