"""Options that several commands share."""

import pathlib

import click

FOLDER = click.Path(file_okay=False, path_type=pathlib.Path)

workdir = click.option(
    "--workdir", type=FOLDER, required=True, help="The run's folder: config, logs, checkpoints."
)
checkpoint = click.option(
    "--checkpoint",
    default="best",
    show_default=True,
    metavar="best|latest|STEP",
    help="Which checkpoint of the run.",
)
quiet = click.option("--quiet", is_flag=True, help="No progress bars.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for other programs.")
