"""`sicl-jax info`: a prepared data set's card."""

import pathlib

import click


@click.command()
@click.argument("dataset")
@click.option(
    "--data_dir",
    type=click.Path(path_type=pathlib.Path),
    required=True,
    help="Where prepared data sets lie.",
)
def command(dataset, data_dir):
    """Prints the card of DATASET (or DATASET/CONFIG): images, people, cameras and outfits."""
    from sicl_jax.data import card
    from sicl_jax.data.store import Store, find_directory

    click.echo(card.text(Store(find_directory(dataset, data_dir))))
