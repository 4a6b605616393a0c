"""`sicl-jax train`."""

import click

from sicl_jax.cli import options


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--config", "config_path", required=True, metavar="FILE", help="Python file with get_config()."
)
@options.workdir
@options.quiet
@click.option(
    "--coordinator",
    metavar="HOST:PORT",
    help="Of several processes: where the first one is reached. Not needed under Slurm, Open MPI "
    "or Kubernetes.",
)
@click.option("--num_processes", type=click.IntRange(min=1), help="How many there are.")
@click.option("--process_id", type=click.IntRange(min=0), help="Which one this is, from 0.")
@click.option(
    "--profile", type=options.FOLDER, metavar="DIR", help="Write a trace of some calls here."
)
@click.option("--debug_nans", is_flag=True, help="Find what makes a number not finite; slow.")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[--config.FIELD=VALUE]...")
def command(
    config_path,
    workdir,
    quiet,
    coordinator,
    num_processes,
    process_id,
    profile,
    debug_nans,
    overrides,
):
    """Train a model; on an existing workdir, go on where it stopped.

    Ctrl-C or SIGTERM save a checkpoint and stop; a second one stops at once.

    Any field of the config can be overridden: --config.epochs=3 --config.data.dir=DIR.

    All devices of this machine are used. To train on several machines start the same command on
    each, with --coordinator, --num_processes and --process_id; the workdir must be one that all
    of them see.
    """
    from sicl_jax import config as configs
    from sicl_jax import processes
    from sicl_jax.training import loop

    config = configs.load(config_path, overrides)
    processes.join(coordinator, num_processes, process_id)
    if processes.is_first() and not quiet:
        click.echo(configs.describe(config))
    loop.train(config, workdir, quiet=quiet, debug_nans=debug_nans, profile=profile, say=click.echo)
