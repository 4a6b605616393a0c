"""`sicl-jax cluster`: the images of an index, sorted into persons."""

import json
import pathlib

import click

from sicl_jax.cli import options

_FILE = click.Path(dir_okay=False, path_type=pathlib.Path)
_LIST, _PAGE, _ALONE = "people.csv", "people.html", "alone"


@click.command()
@options.index
@click.option("--output", type=_FILE, help="Write file, person, trust and similarity to this CSV.")
@click.option(
    "--folders",
    type=options.FOLDER,
    help=f"Copy the images into a folder for each person here, with {_LIST} and {_PAGE}.",
)
@click.option("--page", type=_FILE, help="Write the groups to this HTML file, to look at.")
@click.option(
    "--add",
    is_flag=True,
    help="Keep the persons that --output or --folders lists, and add what is new to them.",
)
@click.option(
    "--eps",
    type=click.FloatRange(0.1, 0.85, min_open=True),
    default=0.5,
    show_default=True,
    help="Largest distance within a person; larger makes larger groups.",
)
@click.option(
    "--k1",
    type=click.IntRange(2, 1000),
    default=20,
    show_default=True,
    help="Neighbours looked at, about the images that there are of a person.",
)
@options.as_json
def command(index_dir, output, folders, page, add, eps, k1, as_json):
    """Sort the images of an index into persons, each with a measure of trust.

    Images like no other stay alone. What is written can be corrected by hand (the column
    `person` of the CSV); --add then keeps it, and gives new images of the index to the persons
    that they are like, or makes new ones of them.
    """
    from sicl_jax.console import counted
    from sicl_jax.errors import UsageError, UserError
    from sicl_jax.retrieval import people, stores

    if output is None and folders is None and page is None:
        raise UsageError("--output FILE, --folders DIR or --page FILE: say where the groups go")
    listed = output if output is not None else folders and folders / _LIST
    if add and listed is None:
        raise UsageError("--add: name the --output or --folders that holds the persons so far")
    if folders is not None and not add and folders.is_dir() and any(folders.iterdir()):
        raise UserError(f"--folders {folders}: is not empty; choose a new one, or --add to it")
    index = stores.open_index(index_dir)
    known = people.read(listed) if add else None
    files = [entry.path for entry in index.entries]
    settings = people.Settings(k1=k1, eps=eps)
    found = people.group(files, index.features(), settings, known)
    if folders is not None:
        _copy(found, folders)
        page = page or folders / _PAGE
    for path in {listed, folders and folders / _LIST} - {None}:
        people.write(found, path)
    if page is not None:
        _write_pages(found, index, index_dir, page)
    alone = int((found.persons == people.ALONE).sum())
    unsure = sum(trust < 0.5 for trust in found.trust.values())
    if as_json:
        trust = {str(person): value for person, value in found.trust.items()}
        click.echo(json.dumps({"images": len(files), "alone": alone, "trust": trust}))
        return
    click.echo(
        f"{counted(len(files), 'image')}: {counted(len(found.trust), 'person')}, "
        f"{counted(alone, 'image')} alone"
        + (f"; look at the {counted(unsure, 'group')} of trust below 0.5" if unsure else "")
    )
    for path in (listed, folders, page):
        if path is not None:
            click.echo(path)


def _write_pages(found, index, index_dir, page) -> None:
    from sicl_jax.data.files import write
    from sicl_jax.report.pages import people_pages

    about = f"{len(index)} images in {index_dir}; model {index.model['workdir']}"
    for path, html in people_pages(found, about, page):
        write(path, html.encode("utf-8", "replace"), f"--page {path}")


def _copy(found, folders: pathlib.Path) -> None:
    """Copies each image into its person's folder; those that are there already stay."""
    import shutil

    from sicl_jax.errors import UserError

    try:
        for row, file in enumerate(found.files):
            person = int(found.persons[row])
            name = f"person_{person:04}" if person > 0 else _ALONE
            target, is_there = _place(folders / name / pathlib.Path(file).name, file)
            if not is_there:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, target)
            if name != _ALONE:  # It may have been alone before.
                before, was_there = _place(folders / _ALONE / pathlib.Path(file).name, file)
                if was_there:
                    before.unlink()
    except OSError as error:
        raise UserError(
            f"--folders {folders}: {error.filename} cannot be copied ({error.strerror}); bring the "
            "index up to date with `sicl-jax index --remove_missing`, or make room"
        ) from error


def _place(wanted: pathlib.Path, file: str) -> tuple[pathlib.Path, bool]:
    """Where a file's copy is, or goes: the wanted name, or one with a number if that is another's.

    Returns:
        The path, and whether the copy is there already.
    """
    source, number, target = pathlib.Path(file).stat(), 1, wanted
    while target.exists():
        stat = target.stat()
        if (stat.st_size, stat.st_mtime_ns) == (source.st_size, source.st_mtime_ns):
            return target, True
        number += 1
        target = wanted.with_stem(f"{wanted.stem}-{number}")
    return target, False
