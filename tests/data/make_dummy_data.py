"""Writes `dummy_data` of the builder packages; run by hand when a layout changes.

python tests/data/make_dummy_data.py [NAME ...]
"""

import pathlib
import shutil
import sys
import tempfile

import raw_pictures
import raw_trees

_BUILDERS = pathlib.Path(__file__).parents[2] / "tfds_builders"
_CAST = raw_pictures.Cast(train=(1,), test=(4,))


def main() -> None:
    """Writes one tree for each data set, its masks in `masks` as `tfds build` wants them."""
    for name in sys.argv[1:] or raw_trees.WRITERS:
        write = raw_trees.WRITERS[name]
        target = _BUILDERS / name / "dummy_data"
        shutil.rmtree(target, ignore_errors=True)
        with tempfile.TemporaryDirectory() as folder:
            tree = write(pathlib.Path(folder), _CAST)
            shutil.move(tree.raw, target)
            if tree.masks.exists():  # Else they lie in the raw folder and came with it.
                shutil.move(tree.masks, target / "masks")
        for junk in [*target.rglob("Thumbs.db"), *target.rglob(".DS_Store")]:
            junk.unlink()  # Git and editors treat them in ways of their own.
        print(name, sum(path.is_file() for path in target.rglob("*")), "files")


if __name__ == "__main__":
    main()
