"""`sicl-jax demo`: the whole way on people drawn by code, in a few minutes on two CPU cores."""

import functools
import json
import pathlib
import time

import click

from sicl_jax.cli import options

_QUERIES_SHOWN = 4
_PICTURE = "ranked_galleries.png"
# Every image of camera A is the gallery: the single-shot figures swing with the images drawn.
_TITLES = {"cloth_changing/all": "clothes changed", "same_clothes/all": "same clothes"}


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--method", default="sicl", show_default=True, help="The method, one with a config *_demo."
)
@click.option(
    "--workdir",
    type=options.FOLDER,
    help="Where checkpoints and results go.  [default: runs/demo, or runs/demo_METHOD]",
)
@click.option(
    "--data_dir",
    type=options.FOLDER,
    default=pathlib.Path("runs/demo_data"),
    show_default=True,
    help="Where the people are drawn; other methods' demos may share it.",
)
@options.quiet
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[--config.FIELD=VALUE]...")
def command(method, workdir, data_dir, quiet, overrides):
    """Draw synthetic people, train a method on them, test before and after.

    SiCL begins with a network that knows people but none of these and not this place, and learns
    without labels. Writes WORKDIR/summary.json and WORKDIR/ranked_galleries.png. On an existing
    workdir it goes on where it stopped.
    """
    begin = time.monotonic()
    from sicl_jax import config as configs
    from sicl_jax import console
    from sicl_jax.data.prepare import Request, prepare
    from sicl_jax.register import METHODS
    from sicl_jax.training import loop

    METHODS.get(method, "--method")
    workdir = workdir or pathlib.Path("runs/demo" if method == "sicl" else f"runs/demo_{method}")
    overrides = [f"--config.data.dir={data_dir}", *overrides]
    config = configs.load(f"{method}_demo", overrides)
    progress = functools.partial(console.progress, quiet=quiet)
    click.echo(f"drawing {config.data.name} into {data_dir}")
    prepare(Request(name=config.data.name, data_dir=data_dir), progress)
    if config.get("teacher") == "" and config.forward_mode != "body":
        teacher = _train_teacher(config, workdir, quiet)
        config = configs.load(f"{method}_demo", [*overrides, f"--config.teacher={teacher}"])
    results = loop.train(config, workdir, quiet=quiet, say=click.echo)
    before = _first_test(workdir)
    after = {name: result.as_dict() for name, result in results.items()}
    titles = {name: title for name, title in _TITLES.items() if name in after}
    titles = titles or dict(zip(after, after, strict=True))
    _draw_galleries(workdir, next(iter(titles)))
    summary = {
        "before": _figures(before, titles),
        "after": _figures(after, titles),
        "seconds": round(time.monotonic() - begin, 1),
    }
    (workdir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    _print_table(summary, titles, workdir)


def _train_teacher(config, workdir: pathlib.Path, quiet: bool) -> pathlib.Path:
    """The workdir of the teacher that a method learns from, trained on the same people."""
    from sicl_jax import config as configs
    from sicl_jax.training import loop

    same = {
        "data.name": config.data.name,
        "data.dir": config.data.dir,
        "epochs": config.epochs,
        "seed": config.seed,
    }
    changes = [f"--config.{name}={value}" for name, value in same.items()]
    folder = workdir.with_name(f"{workdir.name}_teacher")
    click.echo(f"training the teacher in {folder}")
    loop.train(
        configs.load(f"{config.method}_teacher_demo", changes), folder, quiet=quiet, say=click.echo
    )
    return folder


def _figures(results: dict, names) -> dict[str, dict[str, float]]:
    return {name: {key: results[name][key] for key in ("rank1", "mAP")} for name in names}


def _first_test(workdir: pathlib.Path) -> dict:
    """Results before training, as the log has them."""
    from sicl_jax.runs.metrics import METRICS_FILE

    lines = (workdir / METRICS_FILE).read_text().splitlines()
    return next(line for line in map(json.loads, lines) if line["kind"] == "test")


def _draw_galleries(workdir: pathlib.Path, name: str) -> None:
    """Ranked galleries of some queries of a protocol, from the best matched to the worst."""
    from sicl_jax.evaluation import protocols
    from sicl_jax.evaluation.galleries import ranked_galleries
    from sicl_jax.evaluation.ranking import rank
    from sicl_jax.inference import load_run
    from sicl_jax.report import galleries
    from sicl_jax.report.gallery_image import ranked_gallery_picture
    from sicl_jax.training.loop import open_dataset
    from sicl_jax.training.testing import Tester

    model = load_run(workdir, "latest")
    dataset = open_dataset(model.config, model.method)
    (protocol,) = (each for each in protocols(model.config.data.name) if each.name == name)
    splits = [side.split for side in (protocol.parts[0].query, protocol.parts[0].gallery)]
    features = Tester(dataset, model.embedder()).features(model.weights)
    query, gallery = (features[split] for split in splits)
    ranking = rank(query, gallery, {name: protocol.rule})[name]
    chosen = galleries.cross_section(ranking, _QUERIES_SHOWN)
    picture = ranked_gallery_picture(
        *map(dataset.split, splits),
        ranked_galleries(query, gallery, chosen, rule=protocol.rule),
        chosen,
        title=f"{_TITLES.get(name, name).capitalize()}: queries and the images most like them",
        captions=[f"average precision {ranking.average_precision[q]:.0%}" for q in chosen],
    )
    picture.save(workdir / _PICTURE)


def _print_table(summary, titles, workdir) -> None:
    import rich.table

    from sicl_jax.console import console

    table = rich.table.Table(title=f"People found again, {summary['seconds']:.0f} s")
    for title in ("test", "", "before", "after"):
        table.add_column(title, justify="left" if title in ("test", "") else "right")
    for name, title in titles.items():
        for metric, shown in (("rank1", "rank-1"), ("mAP", "mAP")):
            before, after = (summary[when][name][metric] for when in ("before", "after"))
            table.add_row(title, shown, f"{before:.1%}", f"{after:.1%}")
            title = ""
    console.print(table)
    click.echo(f"wrote {workdir / 'summary.json'} and {workdir / _PICTURE}")
