"""The report of a run: one HTML file with all that a person wants to look at."""

import datetime
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from sicl_jax import config as configs
from sicl_jax import inference
from sicl_jax.clustering.dbscan import give_own_clusters
from sicl_jax.data.dataset import Form, ReidDataset, Split, load_dataset
from sicl_jax.errors import UsageError, UserError
from sicl_jax.evaluation import (
    METRICS,
    Result,
    primary_protocol,
    selects_on_test,
)
from sicl_jax.evaluation.progress import MakeBar, silent
from sicl_jax.evaluation.tables import HEADINGS
from sicl_jax.inference import Model
from sicl_jax.methods.base import Method
from sicl_jax.report.clusters import clusters_section
from sicl_jax.report.curves import curves_section
from sicl_jax.report.document import (
    banner,
    document,
    element,
    evenly,
    note,
    picture,
    section,
    table,
    text,
)
from sicl_jax.report.feature_map import map_section
from sicl_jax.report.galleries import galleries_section
from sicl_jax.runs import metrics, saved
from sicl_jax.runs.metrics import RunLog
from sicl_jax.training.testing import Tester


def run_report(
    folder: pathlib.Path,
    *,
    checkpoint: str = "best",
    data_dir: pathlib.Path | None = None,
    batch_size: int | None = None,
    progress: MakeBar = silent,
    warn: Callable[[str], None] = lambda _: None,
) -> str:
    """The report of a run, finished or not, as HTML.

    Args:
        folder: The workdir.
        checkpoint: Whose features to show: `'best'`, `'latest'` or a step.
        data_dir: Where prepared data lie now; where the config says if None.
        batch_size: Images in a batch; the config's if None.
        progress: Makes progress bars.
        warn: Told of what is left out, and why; the report says so too.

    Raises:
        UserError: There is no run in the folder, or its log is damaged.
        UsageError: `checkpoint` is none of the above.
    """
    log = metrics.read_log(folder)
    state, parts = [], []
    if not log.is_finished:
        state.append(
            f"This run is not finished: {log.epochs_done} of {log.epochs_in_all} epochs are done. "
            "The report shows it as it is now."
        )
    if worse := log.made_worse():
        state.append(worse[0].upper() + worse[1:] + ".")
    for line in log.extensions:
        state.append(f"Extended after epoch {line['epoch']}: {line['changes']}.")
    try:
        model = inference.load_run(folder, checkpoint)
        config = model.config.copy_and_resolve_references().unlock()
        config.data.dir = str(data_dir or config.data.dir)
        dataset = load_dataset(config.data.name, config.data.dir, forms=shown(model.method))
        parts = _pictures(model, dataset, batch_size, progress)
    except UsageError:
        raise
    except UserError as error:
        warn(f"galleries, clusters, map and silhouettes are left out: {error}")
        state.append(f"Galleries, clusters, map and silhouettes are left out: {error}")
    sections = [_summary(log), *_named("curves", "Curves", curves_section(log)), *parts]
    sections += _named("config", "Config", _config_section(log))
    return _assemble(log, state, sections)


Part = tuple[str, str, str]
"""A section's name, its title in the navigation, and its HTML."""


def _named(name: str, title: str, html: str) -> list[Part]:
    return [(name, title, html)] if html else []


def shown(method: Method) -> dict[str, Form]:
    """What a method reads, and the images to show, of one that reads faces alone."""
    data = method.config.data
    return {"image": Form(tuple(data.image_size), data.resize), **method.forms}


def _pictures(
    model: Model, dataset: ReidDataset, batch_size: int | None, progress: MakeBar
) -> list[Part]:
    """All sections that need the model's features or the data's images."""
    parts: list[Part] = []
    tester = Tester(dataset, model.embedder(batch_size=batch_size), seed=model.config.seed)
    if tester.splits:
        features = tester.features(model.weights, progress)
        results = tester.results(features, progress=progress)
        parts += _named("results", "Results", _results_section(model, results))
        galleries = galleries_section(dataset, features, results)
        parts += _named("galleries", "Galleries", galleries)
    train = dataset.split("train")
    if model.method.pseudo_labels:
        labels, of = saved.load_memory(model.source, "latest", model.method.pseudo_labels)
        labels = give_own_clusters(labels[: len(train)])
        clusters = clusters_section(train, labels, of.epoch) if of.epoch else ""
        parts += _named("clusters", "Clusters", clusters)
    if tester.splits:
        sides = [(dataset.split(name), found) for name, found in features.items()]
        parts += _named("map", "Map", map_section(sides))
    if "mask" in model.method.forms and train.all_have("mask"):
        parts += _named("silhouettes", "Silhouettes", _silhouettes_section(train))
    return parts


def _assemble(log: RunLog, state: list[str], sections: list[Part]) -> str:
    navigation = [(name, title) for name, title, _ in sections]
    content = "".join(banner(words) for words in state)
    content += "".join(html for _, _, html in sections)
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    content += element("footer", text(f"Made {made} by sicl_jax."))
    unfinished = "" if log.is_finished else " (unfinished)"
    return document(
        f"{log.folder.resolve().name}{unfinished}",
        f"{log.config.method} on {log.config.data.name}",
        content,
        parts=navigation,
    )


def _summary(log: RunLog) -> Part:
    start = log.start
    figures = {
        **_best(log),
        "epochs": f"{log.epochs_done} of {log.epochs_in_all}",
        "data set": log.config.data.name,
    }
    technical = {
        "training images": f"{start['images']:,}" if "images" in start else "",
        "time spent": _hours(log),
        "device": f"{start.get('devices', '')} × {start['device']}" if "device" in start else "",
        "sicl_jax": start.get("sicl_jax", ""),
        "JAX": start.get("jax", ""),
        "config": start.get("config", ""),
        "data fingerprint": start.get("dataset", "")[:12],
        "git commit": start.get("git_commit", "")[:12],
    }
    folded = element("details", element("summary", "Technical facts"), _facts(technical))
    return "summary", "Summary", section("summary", "Summary", _facts(figures), folded)


def _facts(facts: Mapping[str, str]) -> str:
    items = [
        element("div", element("dt", text(name)), element("dd", text(value).replace("/", "/<wbr>")))
        for name, value in facts.items()
        if value
    ]
    return element("dl", *items, class_="facts")


def _best(log: RunLog) -> dict[str, str]:
    """The primary protocol's figures at the best checkpoint so far, and before training."""
    names = log.protocols()
    if not names:
        return {}
    dataset = log.config.data.name
    primary = primary_protocol(dataset, names)
    chooser, best = log.best_test()
    chosen_on = "the test images" if selects_on_test(dataset, chooser) else "validation images"
    facts = {
        "best mAP": f"{best[primary]['mAP']:.1%} (epoch {best['epoch']})",
        "rank-1 then": f"{best[primary]['rank1']:.1%}",
    }
    if log.tests[0]["epoch"] == 0:
        before = log.tests[0][primary]
        facts["before training"] = f"mAP {before['mAP']:.1%}, rank-1 {before['rank1']:.1%}"
    return {
        **facts,
        "protocol": _in_words(primary),
        "checkpoint chosen by": f"mAP of {_in_words(chooser)}, on {chosen_on}",
    }


def _in_words(protocol: str) -> str:
    return protocol.replace("/", ", ").replace("_", " ")


def _hours(log: RunLog) -> str:
    seconds = sum(
        line.get(name, 0)
        for line in (*log.epochs, *log.tests)
        for name in ("seconds_training", "seconds_clustering", "seconds")
    )
    if not seconds:
        return ""
    return str(datetime.timedelta(seconds=round(seconds)))


def _results_section(model: Model, results: Mapping[str, Result]) -> str:
    head = ["protocol", *HEADINGS.values(), "queries", "skipped"]
    rows = []
    for name, result in results.items():
        cells = [_cell(result, metric) for metric in METRICS]
        rows.append([text(name), *cells, f"{result.queries:,}", f"{result.skipped:,}"])
    words = note(
        f"All protocols of the data set with the checkpoint of epoch {model.epoch}, features of "
        f"stream {next(iter(model.method.streams))}, in percent; ± is the standard deviation over "
        "drawn galleries. Skipped are queries without a true match."
    )
    return section("results", "Results", words, table(head, rows))


def _cell(result: Result, metric: str) -> str:
    words = f"{100 * getattr(result, metric):.1f}"
    if result.std is not None:
        words += f" <small>±{100 * result.std[metric]:.1f}</small>"
    return words


def _config_section(log: RunLog) -> str:
    lines = element("pre", text(configs.describe(log.config)), tabindex=0)
    return section("config", "Config", lines)


_SILHOUETTES_SHOWN = 12
_FADE = 0.25


def _silhouettes_section(split: Split) -> str:
    """Some training images, evenly spread, each with its mask and with the rest faded."""
    rows = evenly(len(split), _SILHOUETTES_SHOWN)
    words = note(
        "Image, silhouette as the model sees it, and the image with all else faded. Training "
        "learns body shape from these; a mask that misses the person teaches a wrong one."
    )
    figures = [_cut_out(split, row) for row in rows]
    return section("silhouettes", "Silhouettes", words, element("div", *figures, class_="masks"))


def _cut_out(split: Split, row: int) -> str:
    image, mask, name = (
        np.asarray(split.pixels["image"][row]),
        split.pixels["mask"][row],
        split.names[row],
    )
    share = np.asarray(mask, np.float32)[..., None] / 255
    cut_out = image * (_FADE + (1 - _FADE) * share) + 255 * (1 - _FADE) * (1 - share)
    pictures = [
        picture(image, f"image {name}"),
        picture(mask, f"silhouette of {name}"),
        picture(cut_out.astype(np.uint8), f"person of {name} as the silhouette cuts it out"),
    ]
    return element("figure", element("div", *pictures), element("figcaption", text(name)))
