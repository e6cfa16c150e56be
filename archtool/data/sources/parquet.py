"""Parquet, through pyarrow."""

from pathlib import Path

from archtool.data.raw import Images, Table
from archtool.data.sources.cells import images_of
from archtool.data.spec import DataSpec
from archtool.errors import InputError


def read_parquet(path: Path, spec: DataSpec) -> Table | Images:
    """The table of a parquet file, or its images where a column holds encoded ones."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise InputError(f"{path}: not a readable parquet file ({error})", "write it again") from error
    if table.num_rows == 0:
        raise InputError(f"{path}: no rows", "the file has columns and nothing in them")
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    return images_of(Table(path, columns), spec)
