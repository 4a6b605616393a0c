"""`sicl-jax config`: what a config holds, and what its fields mean."""

import click


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--config", "config_path", metavar="FILE", help="Print this config, as it would run.")
@click.option(
    "--explain",
    is_flag=False,
    flag_value="",
    metavar="[FIELD]",
    help="Explain a field, a group of fields (clustering), or all of them.",
)
@click.option("--markdown", is_flag=True, help="Print the table that is docs/config.md.")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[--config.FIELD=VALUE]...")
def command(config_path, explain, markdown, overrides):
    """Show a config, or explain its fields: meaning, default, range, which files change them."""
    from sicl_jax import config as configs
    from sicl_jax import explain as explained
    from sicl_jax.errors import UsageError

    if explain is None and config_path is None and not markdown:
        raise UsageError("--explain or --config FILE: say what to show")
    if markdown:
        click.echo(explained.markdown(), nl=False)
    if config_path is not None:
        click.echo(configs.describe(configs.load(config_path, overrides)))
    elif overrides:
        raise UsageError(f"{overrides[0]}: goes with --config FILE")
    if explain is not None:
        click.echo(explained.text(explained.choose(explain)))
