"""`sicl-jax prepare`: from raw folders to a data set that can be trained on."""

import dataclasses
import functools
import itertools
import pathlib

import click

from sicl_jax.cli import options
from sicl_jax.errors import UsageError
from sicl_jax.register import DATASETS

_AUTO = pathlib.Path("auto")
_SHOWN_OF_A_KIND = 5


@click.command(epilog=f"Data sets: {', '.join(DATASETS.names())}.")
@click.argument("dataset")
@click.option("--raw", type=options.FOLDER, help="Folder of the raw data.")
@click.option(
    "--masks",
    type=options.FOLDER,
    metavar="DIRECTORY|auto",
    help="Folder of the masks: the images' paths, `.png`; or `auto`, to make them with "
    "--mask_weights in DATA_DIR/masks.  [default: RAW/masks, if it is there]",
)
@click.option(
    "--mask_weights",
    type=click.Path(dir_okay=False, path_type=pathlib.Path),
    help="SCHP checkpoint for `--masks auto`, see `sicl-jax masks`.",
)
@click.option(
    "--faces",
    type=options.FOLDER,
    help="Folder of faces cut out of the images: the images' paths.  [default: RAW/faces, if it is "
    "there]",
)
@click.option(
    "--restored_faces",
    type=options.FOLDER,
    help="Folder of the same faces, restored.  [default: RAW/restored_faces, if it is there]",
)
@click.option(
    "--data_dir", type=options.FOLDER, required=True, help="Where prepared data sets lie."
)
@click.option("--config", help="Builder config; the same as DATASET/CONFIG.")
@click.option("--skip_bad", is_flag=True, help="Leave bad files out instead of stopping.")
@click.option("--overwrite", is_flag=True, help="Prepare anew, replacing what is there.")
@options.quiet
def command(
    dataset,
    raw,
    masks,
    mask_weights,
    faces,
    restored_faces,
    data_dir,
    config,
    skip_bad,
    overwrite,
    quiet,
):
    """Prepares DATASET: checks every file, then writes ArrayRecord files into DATA_DIR.

    DATASET is one of those below, such as person_folder (your own crops) or
    synthetic_people/demo (drawn; takes no --raw), or another that an installed package declares.

    All problems of the raw data are reported at once. Run again after an interruption; a data
    set that is prepared is left alone.
    """
    from sicl_jax import console
    from sicl_jax.data import card
    from sicl_jax.data.prepare import ProblemsError, Request, prepare

    if (masks == _AUTO) != (mask_weights is not None):
        raise UsageError("`--masks auto` and `--mask_weights FILE` are given together")
    if restored_faces is not None and faces is None:
        raise UsageError("--restored_faces: give --faces too, the faces that were restored")
    progress = functools.partial(console.progress, quiet=quiet)
    request = Request(
        name=f"{dataset}/{config}" if config else dataset,
        data_dir=data_dir.expanduser(),
        raw=raw,
        masks=None if masks == _AUTO else masks,
        faces=faces,
        restored_faces=restored_faces,
        skip_bad=skip_bad,
        overwrite=overwrite,
    )
    try:
        if masks == _AUTO:
            request = _with_new_masks(request, mask_weights, progress, quiet=quiet)
        prepared = prepare(request, progress)
    except ProblemsError as error:
        _show(error.problems)
        raise
    _show(prepared.problems)
    for warning in prepared.warnings:
        click.echo(f"warning: {warning}", err=True)
    if prepared.was_there:
        click.echo(f"{request.name} had been prepared before; nothing was written.", err=True)
    click.echo(card.text(prepared.store))


def _with_new_masks(request, weights, progress, *, quiet):
    """Makes the masks of all good images, those that are there excepted."""
    from sicl_jax.data.prepare import good_images
    from sicl_jax.masks.predict import write_masks

    folder = request.data_dir / "masks" / request.name
    names = good_images(request, progress)
    write_masks(request.raw, folder, weights, names=names, quiet=quiet)
    return dataclasses.replace(request, masks=folder)


def _show(problems) -> None:
    from tfds_builders.reid.problems import printable

    by_kind = sorted(problems, key=lambda problem: problem.kind)
    for kind, group in itertools.groupby(by_kind, key=lambda problem: problem.kind):
        same_kind = list(group)
        for problem in same_kind[:_SHOWN_OF_A_KIND]:
            click.echo(f"{printable(problem.path)}: {printable(problem.detail)}", err=True)
        if len(same_kind) > _SHOWN_OF_A_KIND:
            more = len(same_kind) - _SHOWN_OF_A_KIND
            click.echo(f"... and {more} more of the kind `{kind}`", err=True)
