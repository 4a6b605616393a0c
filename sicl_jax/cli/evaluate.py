"""`sicl-jax evaluate`: the test protocols of a data set on a trained model."""

import click

from sicl_jax.cli import options


@click.command()
@options.model
@options.checkpoint
@click.option(
    "--dataset",
    "datasets",
    metavar="NAME,NAME,...",
    help="Test on these prepared data sets instead of the one trained on (NAME or NAME/CONFIG); a "
    "model that is no run needs one.",
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
    """Test a trained model under all protocols of its data set, or of others.

    Prints rank-1, 5, 10, 20, mAP and mINP in percent (fractions with --json and --csv), with the
    number of queries and of those skipped because no true match is left for them. Several data
    sets have a table each, or one with --csv and --latex. `sicl-jax matrix` sets several runs
    against several data sets.
    """
    from sicl_jax.errors import UsageError

    if as_json + as_csv + as_latex > 1:
        raise UsageError("--json, --csv, --latex: choose one of them")
    from sicl_jax.evaluation import tables
    from sicl_jax.runs.metrics import read_log

    found = _evaluate(workdir, **choices)
    columns = ("dataset", "epoch", "stream", "flip", "reranked")
    conditions = [{name: about[name] for name in columns} for about, _ in found]
    if workdir.is_dir() and (worse := read_log(workdir).made_worse()):
        click.echo(f"warning: {worse}", err=True)
    if as_json:
        texts = [tables.json_text(results, **about) for about, results in found]
        click.echo(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
        return
    if as_csv:
        texts = [tables.csv_text(r, **c) for (_, r), c in zip(found, conditions, strict=True)]
        click.echo(texts[0] + "".join(text.partition("\n")[2] for text in texts[1:]), nl=False)
        return
    if as_latex:
        names = ", ".join(about["dataset"] for about, _ in found)
        title = tables.describe(**{**conditions[0], "dataset": names}, draws=choices["draws"])
        click.echo(tables.latex_text(_as_one(found), title), nl=False)
        return
    from rich.console import Console

    for (_, results), of_it in zip(found, conditions, strict=True):
        title = tables.describe(**of_it, draws=choices["draws"])
        Console().print(tables.text_table(results, title))


def _as_one(found):
    """Results of several data sets by `data set/protocol`; of one by the protocol's name."""
    from sicl_jax.register import part_name

    if len(found) == 1:
        return found[0][1]
    return {
        part_name(about["dataset"], protocol): result
        for about, results in found
        for protocol, result in results.items()
    }


def _evaluate(workdir, *, checkpoint, datasets, rerank, only, per_camera, quiet, **choices):
    """What was tested, for the record, and its results: a pair for each data set."""
    import functools

    from sicl_jax import console, inference
    from sicl_jax.errors import UsageError
    from sicl_jax.evaluation import Reranking, by_camera
    from sicl_jax.training.testing import test_on

    model = inference.load(workdir, checkpoint=checkpoint)
    if not datasets and not workdir.is_dir():
        raise UsageError(f"--workdir {workdir} is no run; name a prepared data set by --dataset")
    found = []
    for name in options.names(datasets, "--dataset") or [None]:
        about, results = test_on(
            model,
            name,
            only=only or None,
            reranking=Reranking() if rerank else None,
            progress=functools.partial(console.progress, quiet=quiet),
            **choices,
        )
        found.append((about, by_camera(results) if per_camera else results))
    return found
