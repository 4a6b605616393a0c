"""`sicl-jax report`: a run as one HTML file."""

import json
import pathlib

import click

from sicl_jax.cli import options


@click.command()
@options.workdir
@options.checkpoint
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=pathlib.Path),
    help="The file to write.  [default: WORKDIR/report.html]",
)
@click.option("--data_dir", type=options.FOLDER, help="Where prepared data lie.  [default: config]")
@options.batch_size
@options.as_json
@options.quiet
def command(workdir, checkpoint, output, data_dir, batch_size, as_json, quiet):
    """Write a report of a run, finished or not: one HTML file that needs no network.

    Curves, results, ranked galleries of good and bad queries, clusters, a map of the features,
    silhouettes. It holds pictures of the data set: share it as you may share those.
    """
    import functools

    from sicl_jax import console
    from sicl_jax.data.files import write
    from sicl_jax.report.run_report import run_report

    html = run_report(
        workdir,
        checkpoint=checkpoint,
        data_dir=data_dir,
        batch_size=batch_size,
        progress=functools.partial(console.progress, quiet=quiet),
        warn=lambda words: click.echo(f"warning: {words}", err=True),
    )
    output = output or workdir / "report.html"
    write(output, html.encode("utf-8", "replace"), f"--output {output}")
    size = output.stat().st_size
    if as_json:
        click.echo(json.dumps({"report": str(output), "bytes": size}))
    else:
        words = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} KB"
        click.echo(f"{output} ({words})")
