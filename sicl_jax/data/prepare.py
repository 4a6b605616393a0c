"""Preparing a data set: from raw folders, or generated, to ArrayRecord files."""

import contextlib
import dataclasses
import functools
import io
import json
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence

from sicl_jax import console
from sicl_jax.data import card, contact_sheet, lock
from sicl_jax.data.files import atomic_file
from sicl_jax.data.store import METADATA, Store
from sicl_jax.errors import UsageError, UserError, one_line
from sicl_jax.register import DATASETS
from tfds_builders.reid import listing, plan, problems

PROBLEMS = "problems.csv"
CONTACT_SHEET = "contact_sheet.png"


class ProblemsError(UserError):
    """The raw data has problems; `problems` lists all of them."""

    def __init__(self, message: str, found: list[problems.Problem]):
        super().__init__(message)
        self.problems = found


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What `prepare` did.

    Attributes:
        store: The prepared data set.
        problems: What was left out.
        warnings: What is odd but no error.
        was_there: Whether it had been prepared before, from the same files.
    """

    store: Store
    problems: list[problems.Problem]
    warnings: list[str]
    was_there: bool


Progress = Callable[[int | None, str], contextlib.AbstractContextManager]
_QUIET = functools.partial(console.progress, quiet=True)


@dataclasses.dataclass(frozen=True)
class Request:
    """What to prepare.

    Attributes:
        name: Builder name, or `builder/config`.
        data_dir: Where prepared data sets lie.
        raw: Folder of the raw data; None for a generated data set.
        masks: Folder of the masks, or None.
        faces: Folder of the faces, or None.
        restored_faces: Folder of the restored faces, or None.
        skip_bad: Leave bad files out instead of stopping.
        overwrite: Prepare anew, and replace what was prepared before.
        cores: Number of processes; all usable cores if None.
    """

    name: str
    data_dir: pathlib.Path
    raw: pathlib.Path | None = None
    masks: pathlib.Path | None = None
    faces: pathlib.Path | None = None
    restored_faces: pathlib.Path | None = None
    skip_bad: bool = False
    overwrite: bool = False
    cores: int | None = None

    @property
    def beside(self) -> dict[str, pathlib.Path]:
        """The folders beside the raw one, by column."""
        folders = {"mask": self.masks, "face": self.faces, "face_restored": self.restored_faces}
        return {column: folder for column, folder in folders.items() if folder is not None}


def prepare(request: Request, progress: Progress = _QUIET) -> Prepared:
    """Prepares a data set, or finds that it has been prepared.

    Everything is written into a staging folder that takes the data set's name when it is whole.
    Killed at any point, a rerun starts anew and clears up.

    Args:
        request: What to prepare.
        progress: Shows the progress of a number of images, as `sicl_jax.console.progress`.

    Raises:
        ProblemsError: The raw data has problems and `skip_bad` is not set.
        UserError: A folder is missing, the disk is full, another process is at it, or another data
            set lies at that place.
        UsageError: The request makes no sense.
    """
    _check_name(request.name)
    staging = request.data_dir / f".staging-{request.name.replace('/', '-')}"
    name = f".{request.name.replace('/', '-')}.lock"
    _check_places(request)
    with (
        _translated_errors(request),
        lock.hold(request.data_dir, lambda _: None, flag="--data_dir", name=name),
    ):
        shutil.rmtree(staging, ignore_errors=True)
        try:
            return _Preparation(request, staging, progress).run()
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def good_images(request: Request, progress: Progress = _QUIET) -> list[str]:
    """Returns paths below the raw folder of all images that would be prepared, masks left aside.

    Raises:
        ProblemsError, UserError, UsageError: As `prepare`.
    """
    _check_name(request.name)
    source = getattr(_builder(request.name, request.data_dir), "source", None)
    if source is None or request.raw is None:
        raise UsageError(f"{request.name}: only images of a --raw folder need masks")
    with _translated_errors(request):
        listed = listing.find(source, request.raw, columns=())
        with progress(len(listed.images), "checking") as shown:
            planned = plan.check(
                listed, skip_bad=request.skip_bad, cores=request.cores, advance=shown.advance
            )
    return [example.name for examples in planned.splits.values() for example in examples]


class _Preparation:
    """One run of `prepare`, its staging folder empty and its lock held."""

    def __init__(self, request: Request, staging: pathlib.Path, progress: Progress):
        self._request = request
        self._progress = progress
        self._builder = _builder(request.name, staging)
        self._is_generated = not hasattr(self._builder, "source")
        self._target = request.data_dir / pathlib.Path(self._builder.data_dir).relative_to(staging)
        if self._is_generated != (request.raw is None):
            raise UsageError(
                f"{request.name} is generated and takes no --raw"
                if self._is_generated
                else f"{request.name} needs --raw, the folder of its files"
            )

    def run(self) -> Prepared:
        request = self._request
        existing = Store(self._target) if self._target.exists() and not request.overwrite else None
        if self._is_generated:
            return _found(existing) if existing else self._write(None)
        listed = listing.find(self._builder.source, request.raw, request.beside)
        if existing and existing.metadata.get("listing") == listed.digest:
            return _found(existing, listed.warnings)
        with self._progress(len(listed.images), "checking") as shown:
            planned = plan.check(
                listed, skip_bad=request.skip_bad, cores=request.cores, advance=shown.advance
            )
        if existing is None:
            return self._write(planned)
        if existing.metadata.get("fingerprint") == planned.metadata["fingerprint"]:
            return _found(existing, planned.warnings)
        raise UserError(
            f"{self._target} was prepared from other files; give --overwrite to replace it, or "
            "another --data_dir"
        )

    def _write(self, planned: plan.Plan | None) -> Prepared:
        """Builds the data set in the staging folder and moves it into place.

        Args:
            planned: What to write; None for a generated data set.
        """
        total = sum(map(len, planned.splits.values())) if planned else None
        with self._progress(total, "writing") as shown:
            if planned:
                self._builder.plan, self._builder.advance = planned, shown.advance
            else:
                _count_examples(self._builder, shown.advance)
            self._download_and_prepare()
        store = Store(pathlib.Path(self._builder.data_dir))
        if "card" not in store.metadata:
            with atomic_file(store.directory / METADATA) as file:
                file.write(json.dumps(store.metadata | card.summarise(store)).encode())
        found = planned.problems if planned else []
        if found:
            problems.write_csv(store.directory / PROBLEMS, found)
        contact_sheet.draw(store).save(store.directory / CONTACT_SHEET)
        self._move_into_place(store.directory)
        warnings = planned.warnings if planned else []
        return Prepared(Store(self._target), found, warnings, was_there=False)

    def _download_and_prepare(self) -> None:
        import tensorflow_datasets as tfds  # Slow, and not needed where nothing is written.

        # TFDS prints what it does on standard output, and has progress bars of its own.
        tfds.disable_progress_bar()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self._builder.download_and_prepare(
                    download_dir=self._builder.data_path.parent / "downloads"
                )
        except RuntimeError as error:  # What ArrayRecord's writer raises.
            name, folder = self._request.name, self._request.data_dir
            raise UserError(
                f"cannot write {name} in {folder}: {one_line(error)}; is the disk full?"
            ) from error

    def _move_into_place(self, directory: pathlib.Path) -> None:
        self._target.parent.mkdir(parents=True, exist_ok=True)
        if self._target.exists():
            self._target.rename(directory.with_name("replaced"))
        directory.rename(self._target)
        (self._target.parent / PROBLEMS).unlink(missing_ok=True)


def _found(store: Store, warnings: Sequence[str] = ()) -> Prepared:
    return Prepared(store, [], list(warnings), was_there=True)


def _check_places(request: Request) -> None:
    """Refuses to write into a folder that is read.

    Raises:
        UserError: data_dir lies in one of them, so that its pictures would become input.
    """
    data_dir = request.data_dir.resolve()
    for flag in ("raw", "masks", "faces", "restored_faces"):
        folder = getattr(request, flag)
        if folder is not None and data_dir.is_relative_to(folder.expanduser().resolve()):
            raise UserError(
                f"--data_dir {request.data_dir} lies in --{flag} {folder}; what is written there "
                "would be read as images the next time, so choose a folder elsewhere"
            )


def builder_class(name: str) -> type:
    """Returns the TFDS builder of a data set, ours or an installed package's.

    Raises:
        UsageError: There is none of that name.
        UserError: What is registered by that name is no builder, or one of another name.
    """
    import tensorflow_datasets as tfds

    if name not in DATASETS and "duke" in name.lower():
        raise UsageError(
            "DukeMTMC was withdrawn by its authors and is not supported; use another data set"
        )
    builder = DATASETS.get(name, "DATASET")
    if not (isinstance(builder, type) and issubclass(builder, tfds.core.DatasetBuilder)):
        raise UserError(
            f"data set {name!r}: {builder!r} is no TFDS builder; register a class of `ReidBuilder`"
        )
    if builder.name != name:
        raise UserError(
            f"data set {name!r}: its builder's name is {builder.name!r}; call the class `Builder` "
            f"and its file {name}_dataset_builder.py, from which TFDS takes the name"
        )
    return builder


def _check_name(name: str) -> None:
    builder_name, _, config = name.partition("/")
    configs = [config.name for config in builder_class(builder_name).BUILDER_CONFIGS]
    if config in configs or (not config and not configs):
        return
    if not configs:
        raise UsageError(f"{builder_name} has no configs; leave {config!r} out")
    choices = ", ".join(f"{builder_name}/{known}" for known in configs)
    raise UsageError(f"{name} is not one of {choices}; choose one of them")


def _builder(name: str, staging: pathlib.Path):
    builder_name, _, config = name.partition("/")
    return builder_class(builder_name)(
        data_dir=staging, config=config or None, file_format="array_record"
    )


def _count_examples(builder, advance: Callable[[int], None]) -> None:
    generate = builder._generate_examples

    def counted(*args, **kwargs):
        for example in generate(*args, **kwargs):
            advance(1)
            yield example

    builder._generate_examples = counted


@contextlib.contextmanager
def _translated_errors(request: Request) -> Iterator[None]:
    """Makes errors of the builders and the disk into a user's errors."""
    try:
        yield
    except problems.ProblemsFoundError as error:
        path = request.data_dir / request.name / PROBLEMS
        problems.write_csv(path, error.problems)
        raise ProblemsError(f"{error}; all are listed in {path}", error.problems) from error
    except problems.RawDataError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"cannot prepare {request.name} in {request.data_dir}: {error}") from error
