"""`sicl-jax evaluate`: the test protocols of a data set on a trained model."""

import click

from sicl_jax.cli import options


@click.command()
@options.workdir
@options.checkpoint
@click.option(
    "--dataset", help="Test on this prepared data set instead of the one trained on (NAME/CONFIG)."
)
@click.option("--data_dir", type=options.FOLDER, help="Where prepared data lie.  [default: config]")
@options.stream
@options.flip
@click.option(
    "--rerank", is_flag=True, help="k-reciprocal re-ranking with k1 20, k2 6, weight 0.3."
)
@click.option(
    "--protocol", "only", multiple=True, help="Run this protocol alone; may be given repeatedly."
)
@click.option(
    "--draws",
    type=click.IntRange(min=3),
    default=10,
    show_default=True,
    help="Single-shot galleries drawn.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Of those draws.  [default: config]")
@click.option(
    "--bootstrap",
    type=click.IntRange(min=0),
    default=0,
    metavar="SAMPLES",
    help="95% confidence intervals from so many resamplings of the queries; 1000 is usual.",
)
@click.option("--per_camera", is_flag=True, help="Add figures of each camera's queries alone.")
@options.batch_size
@options.as_json
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--latex", "as_latex", is_flag=True, help="Print a LaTeX tabular.")
@options.quiet
def command(workdir, as_json, as_csv, as_latex, **choices):
    """Test a trained model under all protocols of its data set, or of another one.

    Prints rank-1, 5, 10, 20, mAP and mINP in percent (fractions with --json and --csv), with the
    number of queries and of those skipped because no true match is left for them.
    """
    from sicl_jax.errors import UsageError

    if as_json + as_csv + as_latex > 1:
        raise UsageError("--json, --csv, --latex: choose one of them")
    from sicl_jax.evaluation import tables
    from sicl_jax.runs.metrics import read_log

    about, results = _evaluate(workdir, **choices)
    columns = ("dataset", "epoch", "stream", "flip", "reranked")
    conditions = {name: about[name] for name in columns}
    if worse := read_log(workdir).made_worse():
        click.echo(f"warning: {worse}", err=True)
    title = tables.describe(**conditions, draws=choices["draws"])
    if as_json:
        click.echo(tables.json_text(results, **about))
    elif as_csv:
        click.echo(tables.csv_text(results, **conditions), nl=False)
    elif as_latex:
        click.echo(tables.latex_text(results, title), nl=False)
    else:
        from rich.console import Console

        Console().print(tables.text_table(results, title))


def _evaluate(
    workdir,
    *,
    checkpoint,
    dataset,
    data_dir,
    stream,
    flip,
    rerank,
    only,
    draws,
    seed,
    bootstrap,
    per_camera,
    batch_size,
    quiet,
):
    """What was tested, for the record, and its results."""
    import functools

    from sicl_jax import console, inference
    from sicl_jax.errors import UserError
    from sicl_jax.evaluation import Reranking, by_camera
    from sicl_jax.training.loop import open_dataset
    from sicl_jax.training.testing import Tester

    model = inference.load_run(workdir, checkpoint)
    config = model.config.copy_and_resolve_references().unlock()
    config.data.name = dataset or config.data.name
    config.data.dir = str(data_dir or config.data.dir)
    seed = config.seed if seed is None else seed
    embedder = model.embedder(stream, flip, batch_size)
    tester = Tester(open_dataset(config, model.method), embedder, seed=seed)
    if not tester.splits:
        raise UserError(
            f"{tester.dataset.directory}: {config.data.name} has no test splits; prepare it from "
            "folders `train`, `query` and `gallery` (docs/data.md), or name another --dataset"
        )
    results = tester.test(
        model.weights,
        only=only or None,
        draws=draws,
        reranking=Reranking() if rerank else None,
        bootstrap=bootstrap,
        progress=functools.partial(console.progress, quiet=quiet),
    )
    about = {
        **model.about(),
        "dataset": config.data.name,
        "fingerprint": tester.dataset.fingerprint,
        "stream": embedder.stream,
        "flip": embedder.flip,
        "reranked": rerank,
        "seed": seed,
    }
    return about, by_camera(results) if per_camera else results
