"""`sicl-jax train`."""

import click

from sicl_jax.cli import options


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--config", "config_path", required=True, metavar="FILE", help="Python file with get_config()."
)
@options.workdir
@options.quiet
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[--config.FIELD=VALUE]...")
def command(config_path, workdir, quiet, overrides):
    """Train a model; on an existing workdir, go on where it stopped.

    Any field of the config can be overridden: --config.epochs=3 --config.data.dir=DIR.
    """
    from sicl_jax import config as configs
    from sicl_jax.training import loop

    config = configs.load(config_path, overrides)
    if not quiet:
        click.echo(configs.describe(config))
    loop.train(config, workdir, quiet=quiet, say=click.echo)
