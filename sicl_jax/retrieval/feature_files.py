"""Features on disk, for other programs: NumPy's `.npz` or Parquet."""

import json
import pathlib
from collections.abc import Callable

import numpy as np

from sicl_jax.data.files import atomic_file
from sicl_jax.errors import UsageError, UserError
from sicl_jax.retrieval.folder import Embedded


def writer(path: pathlib.Path) -> Callable[[Embedded, dict], None]:
    """What writes a file of this name, found before the work is done.

    Raises:
        UsageError: The name ends in neither `.npz` nor `.parquet`.
        UserError: Its folder is missing, or Parquet cannot be written here.
    """
    writers = {".npz": _write_npz, ".parquet": _write_parquet}
    if path.suffix not in writers:
        raise UsageError(f"--output {path}: name a file that ends in .npz or .parquet")
    if not path.parent.is_dir():
        raise UserError(f"--output {path}: its folder does not exist; make it first")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise UserError(f"--output {path}: needs the package pyarrow; install it") from error

    def write(embedded: Embedded, about: dict) -> None:
        try:
            writers[path.suffix](path, embedded, about)
        except OSError as error:
            raise UserError(f"--output {path}: cannot be written ({error.strerror})") from error

    return write


def _write_npz(path: pathlib.Path, embedded: Embedded, about: dict) -> None:
    with atomic_file(path) as file:
        np.savez(
            file,
            features=embedded.features,
            files=np.asarray(embedded.names, np.str_),
            about=np.asarray(json.dumps(about)),
        )


def _write_parquet(path: pathlib.Path, embedded: Embedded, about: dict) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    size = embedded.features.shape[1]
    features = pa.FixedSizeListArray.from_arrays(pa.array(embedded.features.ravel()), size)
    table = pa.table({"file": pa.array(embedded.names, pa.string()), "feature": features})
    table = table.replace_schema_metadata({"sicl_jax": json.dumps(about)})
    with atomic_file(path) as file:
        pyarrow.parquet.write_table(table, file)
