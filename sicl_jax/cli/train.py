"""`sicl-jax train`."""

import click

from sicl_jax.cli import options


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--config", "config_path", required=True, metavar="FILE", help="Python file with get_config()."
)
@options.workdir
@click.option(
    "--seeds",
    metavar="N,N,...",
    help="Train once with each of these seeds, one after the other, in WORKDIR/seed_N.",
)
@click.option(
    "--devices",
    type=click.IntRange(min=1),
    help="Use the first so many devices of this machine.  [default: all]",
)
@click.option(
    "--extend",
    is_flag=True,
    help="Train a finished run on, with more --config.epochs; the log says that it was.",
)
@options.quiet
@options.several
@click.option(
    "--profile", type=options.FOLDER, metavar="DIR", help="Write a trace of some calls here."
)
@click.option("--debug_nans", is_flag=True, help="Find what makes a number not finite; slow.")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[--config.FIELD=VALUE]...")
def command(
    config_path,
    workdir,
    seeds,
    devices,
    extend,
    quiet,
    others,
    profile,
    debug_nans,
    overrides,
):
    """Train a model; on an existing workdir, go on where it stopped.

    Ctrl-C or SIGTERM save a checkpoint and stop; a second one stops at once.

    Any field of the config can be overridden: --config.epochs=3 --config.data.dir=DIR.

    All devices of this machine are used, or the first --devices of them. To train on several
    machines start the same command on each, with --coordinator, --num_processes and --process_id;
    the workdir must be one that all of them see. `sicl-jax compare WORKDIR` sums up --seeds.
    """
    from sicl_jax import config as configs
    from sicl_jax import processes
    from sicl_jax.training import loop

    config = configs.load(config_path, overrides)
    runs = {workdir: config}
    if seeds is not None:
        numbers = dict.fromkeys(_numbers(seeds))
        runs = {
            workdir / f"seed_{n}": configs.load(config_path, [*overrides, f"--config.seed={n}"])
            for n in numbers
        }
    processes.join(*others)
    if devices is not None:
        from sicl_jax.devices import use

        use(devices)
    if processes.is_first() and not quiet:
        click.echo(configs.describe(config))
    for folder, of_run in runs.items():
        if seeds is not None and processes.is_first():
            click.echo(f"seed {of_run.seed}, in {folder}")
        loop.train(
            of_run,
            folder,
            extend=extend,
            quiet=quiet,
            debug_nans=debug_nans,
            profile=profile,
            say=click.echo,
        )


def _numbers(words: str) -> list[str]:
    from sicl_jax.errors import UsageError

    found = [word.strip() for word in words.split(",")]
    if not all(word.isdecimal() for word in found):
        raise UsageError(f"--seeds {words}: give whole numbers with commas between, such as 0,1,2")
    return found
