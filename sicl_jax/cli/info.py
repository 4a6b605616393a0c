"""`sicl-jax info`: a prepared data set's card."""

import json

import click

from sicl_jax.cli import options


@click.command()
@click.argument("dataset")
@click.option(
    "--data_dir", type=options.FOLDER, required=True, help="Where prepared data sets lie."
)
@options.as_json
def command(dataset, data_dir, as_json):
    """Prints the card of DATASET (or DATASET/CONFIG): images, people, and methods that it suits."""
    from sicl_jax import methods
    from sicl_jax.data import card
    from sicl_jax.data.store import Store, find_directory

    store = Store(find_directory(dataset, data_dir))
    about = json.loads(card.json_text(store))
    lacking = methods.lacking(about["card"].get("train", {}))
    if as_json:
        click.echo(json.dumps(about | {"lacking": lacking}, indent=2))
        return
    click.echo(card.text(store))
    suited = [name for name, missing in lacking.items() if not missing]
    click.echo(f"It suits the methods: {', '.join(suited) or 'none'}")
    for name, missing in lacking.items():
        if missing:
            click.echo(f"Training has no {', no '.join(missing)} for {name}".replace("_", " "))
