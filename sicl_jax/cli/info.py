"""`sicl-jax info`: a prepared data set's card."""

import click

from sicl_jax.cli import options


@click.command()
@click.argument("dataset")
@click.option(
    "--data_dir", type=options.FOLDER, required=True, help="Where prepared data sets lie."
)
@options.as_json
def command(dataset, data_dir, as_json):
    """Prints the card of DATASET (or DATASET/CONFIG): images, people, cameras and outfits."""
    from sicl_jax.data import card
    from sicl_jax.data.store import Store, find_directory

    store = Store(find_directory(dataset, data_dir))
    click.echo(card.json_text(store) if as_json else card.text(store))
