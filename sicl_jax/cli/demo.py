"""`sicl-jax demo`: the whole way on people drawn by code, in a few minutes on two CPU cores."""

import json
import pathlib
import time

import click

from sicl_jax.cli import options

_CONFIG = "sicl_demo"
_QUERIES_SHOWN = 4
_PICTURE = "ranked_galleries.png"
# Every image of camera A is the gallery: the single-shot figures swing with the images drawn.
_PROTOCOLS = {"clothes changed": "cloth_changing/all", "same clothes": "same_clothes/all"}


@click.command()
@click.option(
    "--workdir",
    type=options.FOLDER,
    default=pathlib.Path("runs/demo"),
    show_default=True,
    help="Where data, checkpoints and results go.",
)
@options.quiet
def command(workdir, quiet):
    """Draw synthetic people, train SiCL on them without labels, test before and after.

    Writes WORKDIR/summary.json and WORKDIR/ranked_galleries.png. On an existing workdir it goes on
    where it stopped.
    """
    begin = time.monotonic()
    from sicl_jax import config as configs
    from sicl_jax import console
    from sicl_jax.data.prepare import Request, prepare
    from sicl_jax.training import loop

    data_dir = workdir / "data"
    config = configs.load(_CONFIG, [f"--config.data.dir={data_dir}"])
    click.echo(f"drawing {config.data.name} into {data_dir}")
    prepare(Request(name=config.data.name, data_dir=data_dir), console.progress)
    after = loop.train(config, workdir, quiet=quiet, say=click.echo)
    before = _first_test(workdir)
    _draw_galleries(workdir)
    summary = {
        "before": _figures(before),
        "after": _figures({name: result.as_dict() for name, result in after.items()}),
        "seconds": round(time.monotonic() - begin, 1),
    }
    (workdir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    _print_table(before, after, summary["seconds"], workdir)


def _figures(results: dict) -> dict[str, float]:
    chosen = results[_PROTOCOLS["clothes changed"]]
    return {"rank1": chosen["rank1"], "mAP": chosen["mAP"]}


def _first_test(workdir: pathlib.Path) -> dict:
    """Results before training, as the log has them."""
    from sicl_jax.runs.metrics import METRICS_FILE

    lines = (workdir / METRICS_FILE).read_text().splitlines()
    return next(line for line in map(json.loads, lines) if line["kind"] == "test")


def _draw_galleries(workdir: pathlib.Path) -> None:
    """Ranked galleries of some queries in changed clothes, from the best matched to the worst."""
    from sicl_jax.evaluation import evaluate_dataset
    from sicl_jax.evaluation.galleries import ranked_galleries
    from sicl_jax.inference import load_run
    from sicl_jax.report import choice
    from sicl_jax.report.gallery_image import ranked_gallery_picture
    from sicl_jax.training.loop import open_dataset
    from sicl_jax.training.testing import Tester

    model = load_run(workdir, "latest")
    dataset = open_dataset(model.config, model.method)
    tester = Tester(dataset, model.embedder())
    features = tester.features(model.weights)
    query, gallery = features["query_changed"], features["gallery"]
    name = _PROTOCOLS["clothes changed"]
    ranking = evaluate_dataset(dataset.name, features, only=[name])[name].rankings[0]
    chosen = choice.cross_section(ranking, _QUERIES_SHOWN)
    picture = ranked_gallery_picture(
        dataset.split("query_changed"),
        dataset.split("gallery"),
        ranked_galleries(query, gallery, chosen),
        chosen,
        title="Queries in changed clothes and the gallery images most like them",
        captions=[f"average precision {ranking.average_precision[q]:.0%}" for q in chosen],
    )
    picture.save(workdir / _PICTURE)


def _print_table(before, after, seconds, workdir) -> None:
    import rich.table

    from sicl_jax.console import console

    table = rich.table.Table(title=f"People found again, {seconds:.0f} s")
    for title in ("test", "", "before", "after"):
        table.add_column(title, justify="left" if title in ("test", "") else "right")
    for title, name in _PROTOCOLS.items():
        result = after[name].as_dict()
        for metric, shown in (("rank1", "rank-1"), ("mAP", "mAP")):
            table.add_row(title, shown, f"{before[name][metric]:.1%}", f"{result[metric]:.1%}")
            title = ""
    console.print(table)
    click.echo(f"wrote {workdir / 'summary.json'} and {workdir / _PICTURE}")
