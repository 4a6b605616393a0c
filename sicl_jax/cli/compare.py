"""`sicl-jax compare`: several runs beside one another."""

import pathlib

import click

from sicl_jax.cli import options


@click.command()
@click.argument(
    "workdirs", nargs=-1, required=True, type=options.FOLDER, metavar="WORKDIR [WORKDIR]..."
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=pathlib.Path),
    help="Write a page with the table, the curves and what differs in the configs here.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@options.as_json
def command(workdirs, output, as_csv, as_json):
    """Compare runs: figures at their best checkpoints, configs, curves.

    Runs whose configs differ in the seed alone make one row, with mean and standard deviation. A
    folder of several runs, as `train --seeds` makes, stands for all of them.
    """
    from sicl_jax.data.files import write
    from sicl_jax.errors import UsageError
    from sicl_jax.report import comparison

    if as_json and as_csv:
        raise UsageError("--json, --csv: choose one of them")
    groups = comparison.read(workdirs)
    if output is not None:
        write(output, comparison.page(groups).encode("utf-8", "replace"), f"--output {output}")
    if as_json:
        click.echo(comparison.json_text(groups))
    elif as_csv:
        click.echo(comparison.csv_text(groups), nl=False)
    else:
        from rich.console import Console

        console = Console()
        console.print(comparison.text_table(groups))
        differing = comparison.differences(groups) if len(groups) > 1 else {}
        for name, values in differing.items():
            console.print(f"config.{name}: {' | '.join(map(str, values))}", markup=False)
