"""`sicl-jax matrix`: several runs against several data sets."""

import pathlib

import click

from sicl_jax.cli import options

_FIGURES = ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP")


@click.command()
@click.argument(
    "workdirs", nargs=-1, required=True, type=options.FOLDER, metavar="WORKDIR [WORKDIR]..."
)
@click.option(
    "--dataset",
    "datasets",
    metavar="NAME,NAME,...",
    help="Test on these prepared data sets.  [default: all that the runs were trained on]",
)
@click.option("--data_dir", type=options.FOLDER, help="Where prepared data lie.  [default: config]")
@click.option(
    "--figure", type=click.Choice(_FIGURES), default="mAP", show_default=True, help="In the cells."
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=pathlib.Path),
    help="Write a page (.html) or the picture alone (.svg) here.",
)
@options.batch_size
@options.as_json
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: all protocols, all figures.")
@click.option("--latex", "as_latex", is_flag=True, help="Print a LaTeX tabular.")
@options.quiet
def command(workdirs, datasets, figure, output, as_json, as_csv, as_latex, quiet, **choices):
    """Test all runs on all data sets, each by its best checkpoint.

    Runs whose configs differ in the seed alone make one row, with mean and standard deviation. A
    folder of several runs stands for all of them.
    """
    import functools

    from sicl_jax.errors import UsageError

    if as_json + as_csv + as_latex > 1:
        raise UsageError("--json, --csv, --latex: choose one of them")
    if output is not None and output.suffix not in (".html", ".svg"):
        raise UsageError(f"--output {output}: give a name that ends in .html or .svg")
    names = options.names(datasets, "--dataset")

    from sicl_jax import console
    from sicl_jax.data.files import write
    from sicl_jax.report import comparison, matrix

    measured = matrix.measure(
        comparison.read(workdirs),
        names,
        progress=functools.partial(console.progress, quiet=quiet),
        warn=lambda words: click.echo(f"warning: {words}", err=True),
        **choices,
    )
    if output is not None:
        draw = matrix.picture if output.suffix == ".svg" else matrix.page
        write(output, draw(measured, figure).encode("utf-8", "replace"), f"--output {output}")
    if as_json:
        click.echo(matrix.json_text(measured))
    elif as_csv:
        click.echo(matrix.csv_text(measured), nl=False)
    elif as_latex:
        click.echo(matrix.latex_text(measured, figure), nl=False)
    else:
        from rich.console import Console

        Console().print(matrix.text_table(measured, figure))
