"""`sicl-jax prepare`: from raw folders to a data set that can be trained on."""

import itertools
import pathlib

import click

_SHOWN_OF_A_KIND = 5


@click.command()
@click.argument("dataset")
@click.option("--raw", type=click.Path(path_type=pathlib.Path), help="Folder of the raw data.")
@click.option(
    "--masks",
    type=click.Path(path_type=pathlib.Path),
    help="Folder of the masks: the images' paths, `.png`. [default: RAW/masks, if it is there]",
)
@click.option(
    "--data_dir",
    type=click.Path(path_type=pathlib.Path),
    required=True,
    help="Where prepared data sets lie.",
)
@click.option("--config", help="Builder config; the same as DATASET/CONFIG.")
@click.option("--skip_bad", is_flag=True, help="Leave bad files out instead of stopping.")
@click.option("--overwrite", is_flag=True, help="Prepare anew, replacing what is there.")
def command(dataset, raw, masks, data_dir, config, skip_bad, overwrite):
    """Prepares DATASET: checks every file, then writes ArrayRecord files into DATA_DIR.

    DATASET is prcc, ltcc, vc_clothes, celeb_reid, celeb_reid_light, deepchange, person_folder
    (your own crops) or synthetic_people/demo (generated; takes no --raw).

    All problems of the raw data are reported at once. Run again after an interruption; a data
    set that is prepared is left alone.
    """
    from sicl_jax.cli import console
    from sicl_jax.data import card
    from sicl_jax.data.prepare import ProblemsError, Request, prepare

    request = Request(
        name=f"{dataset}/{config}" if config else dataset,
        data_dir=data_dir.expanduser(),
        raw=raw,
        masks=masks,
        skip_bad=skip_bad,
        overwrite=overwrite,
    )
    try:
        prepared = prepare(request, console.progress)
    except ProblemsError as error:
        _show(error.problems)
        raise
    _show(prepared.problems)
    for warning in prepared.warnings:
        click.echo(f"warning: {warning}", err=True)
    if prepared.was_there:
        click.echo(f"{request.name} had been prepared before; nothing was written.", err=True)
    click.echo(card.text(prepared.store))


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
