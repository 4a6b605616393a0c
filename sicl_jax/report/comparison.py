"""Several runs beside one another: figures over seeds, configs, curves."""

import csv
import dataclasses
import io
import json
import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import rich.table

from sicl_jax import config as configs
from sicl_jax.errors import UserError
from sicl_jax.evaluation import primary_protocol
from sicl_jax.report.charts import MOST_CURVES, Curve, line_chart
from sicl_jax.report.document import banner, document, element, note, section, table, text
from sicl_jax.runs import metrics
from sicl_jax.runs.metrics import RunLog
from sicl_jax.runs.workdir import CONFIG_FILE

FIGURES = {"mAP": "mAP", "rank1": "rank-1"}


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Runs whose configs differ in the seed alone.

    Attributes:
        name: What they are called: the folder that they share, or the run's own.
        runs: Their logs.
    """

    name: str
    runs: tuple[RunLog, ...]

    def values(self, protocol: str, figure: str) -> list[float]:
        """A figure at the best checkpoint of every run that was tested so."""
        best = [run.best_test() for run in self.runs]
        return [found[1][protocol][figure] for found in best if found and protocol in found[1]]

    def figures(self, protocol: str) -> dict[str, tuple[float, float | None]]:
        """Mean and sample standard deviation by figure; None for the latter of a single run."""
        found = {name: self.values(protocol, name) for name in FIGURES}
        return {
            name: (statistics.fmean(v), statistics.stdev(v) if len(v) > 1 else None)
            for name, v in found.items()
            if v
        }

    @property
    def seeds(self) -> list[int]:
        """Of the runs."""
        return sorted(run.config.seed for run in self.runs)


def read(folders: Sequence[pathlib.Path]) -> list[Group]:
    """The runs in these folders, and in the folders right below them, as groups.

    Raises:
        UserError: A folder holds no run, or a damaged one.
    """
    runs: dict[str, list[RunLog]] = {}
    for folder in folders:
        inside = sorted(path.parent for path in folder.glob(f"*/{CONFIG_FILE}"))
        found = [folder] if (folder / CONFIG_FILE).is_file() else inside
        if not found:
            raise UserError(f"{folder}: no run here, nor in the folders below it; train one first")
        for run in found:
            log = metrics.read_log(run)
            values = dict(configs.flatten(log.config)) | {"seed": 0}
            runs.setdefault(json.dumps(values, sort_keys=True), []).append(log)
    return [Group(_name([log.folder for log in logs]), tuple(logs)) for logs in runs.values()]


def _name(folders: Sequence[pathlib.Path]) -> str:
    parents = {folder.parent for folder in folders}
    shared = len(folders) > 1 and len(parents) == 1
    return str(folders[0].parent if shared else folders[0])


def protocols(groups: Sequence[Group]) -> list[str]:
    """Protocols that any of the runs was tested by, in order."""
    runs = [run for group in groups for run in group.runs]
    return list(dict.fromkeys(name for run in runs for name in run.protocols()))


def differences(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """Values by field, one for each group, of the fields in which any two groups differ.

    The seed is not among them; a field that a method lacks is None there.
    """
    values = [dict(configs.flatten(group.runs[0].config)) for group in groups]
    names = sorted({name for each in values for name in each} - {"seed"})
    listed = {name: [each.get(name) for each in values] for name in names}
    return {n: found for n, found in listed.items() if any(v != found[0] for v in found)}


def rows(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """A row for each group and protocol: name, runs, means and standard deviations (fractions)."""
    found = []
    for group in groups:
        for protocol in protocols([group]):
            row: dict[str, Any] = {"runs": group.name, "seeds": len(group.runs)}
            row["protocol"] = protocol
            for name, (mean, std) in group.figures(protocol).items():
                row[name], row[f"{name}_std"] = mean, std
            found.append(row)
    return found


# ---- as text -------------------------------------------------------------------------------


def json_text(groups: Sequence[Group]) -> str:
    """All of it for other programs."""
    about = [{"runs": g.name, "seeds": g.seeds} for g in groups]
    return json.dumps({"groups": about, "results": rows(groups), "differs": differences(groups)})


def csv_text(groups: Sequence[Group]) -> str:
    """The rows as CSV."""
    text_ = io.StringIO(newline="")
    columns = ["runs", "seeds", "protocol", *(c for f in FIGURES for c in (f, f"{f}_std"))]
    writer = csv.DictWriter(text_, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(groups))
    return text_.getvalue()


def text_table(groups: Sequence[Group]) -> rich.table.Table:
    """The rows as a table for a terminal, in percent."""
    shown = rich.table.Table(title=_TITLE)
    shown.add_column("runs", overflow="fold")  # Cut, they could not be told apart.
    for name in ("seeds", "protocol", *FIGURES.values()):
        shown.add_column(name)
    for row in rows(groups):
        cells = [_cell(row, name) for name in FIGURES]
        shown.add_row(row["runs"], str(row["seeds"]), row["protocol"], *cells)
    return shown


_TITLE = "Best checkpoints, percent; ± is the standard deviation over seeds"


def _cell(row: Mapping[str, Any], name: str) -> str:
    if name not in row:
        return ""
    std = row[f"{name}_std"]
    return f"{100 * row[name]:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


# ---- as a page -----------------------------------------------------------------------------


def page(groups: Sequence[Group]) -> str:
    """The comparison as one HTML file."""
    groups, shared = in_short(groups)
    parts = [("results", "Results", _results(groups)), ("curves", "Curves", _curves(groups))]
    if len(groups) > 1:
        parts.append(("config", "Configs", _differing(groups)))
    unfinished = [str(r.folder) for g in groups for r in g.runs if not r.is_finished]
    state = banner(f"Not finished yet: {', '.join(unfinished)}.") if unfinished else ""
    count = sum(len(group.runs) for group in groups)
    return document(
        "Comparison",
        f"{count} runs, {len(groups)} configs, in {shared}",
        state + "".join(html for _, _, html in parts),
        parts=[(name, title) for name, title, _ in parts],
    )


def in_short(groups: Sequence[Group]) -> tuple[Sequence[Group], str]:
    """The groups called by what their names do not share, and the folder that they share."""
    folders = [os.path.abspath(group.name) for group in groups]  # noqa: PTH100 - links stay.
    shared = os.path.commonpath([os.path.dirname(folder) for folder in folders])  # noqa: PTH120
    names = [os.path.relpath(folder, shared) for folder in folders]
    return [dataclasses.replace(g, name=n) for g, n in zip(groups, names, strict=True)], shared


def _results(groups: Sequence[Group]) -> str:
    words = note(f"{_TITLE} (of the sample). The best checkpoint is that of the run's own choice.")
    found, parts = rows(groups), []
    for protocol in protocols(groups):
        lines = [
            [text(row["runs"]), str(row["seeds"]), *(_cell(row, name) for name in FIGURES)]
            for row in found
            if row["protocol"] == protocol
        ]
        parts += [element("h3", text(protocol)), table(["runs", "seeds", *FIGURES.values()], lines)]
    return section("results", "Results", words, *parts)


def _curves(groups: Sequence[Group]) -> str:
    runs = [(_run_name(group, run), run) for group in groups for run in group.runs]
    parts = []
    if len(runs) > MOST_CURVES:
        parts.append(note(f"Drawn are the first {MOST_CURVES} of {len(runs)} runs."))
    charts = [
        line_chart("Loss", [Curve(name, run.curve("loss")) for name, run in runs], zero=False),
        *(
            line_chart(
                f"Test: {words} of {protocol}",
                [Curve(name, run.test_curve(protocol, figure)) for name, run in runs],
                words=lambda value: f"{100 * value:.4g}%",
            )
            for protocol in _primary(groups)
            for figure, words in FIGURES.items()
        ),
        *(
            line_chart(title, [Curve(name, run.curve(figure)) for name, run in runs])
            for figure, title in _OF_EPOCHS.items()
        ),
    ]
    return section("curves", "Curves", *parts, element("div", *charts, class_="charts"))


_OF_EPOCHS = {
    "clusters": "Clusters",
    "unclustered": "Lone images",
    "ari": "Clusters against identities: adjusted Rand index",
    "learning_rate": "Learning rate",
    "images_per_second": "Images per second",
}


def _run_name(group: Group, run: RunLog) -> str:
    return f"{group.name}, seed {run.config.seed}" if len(group.runs) > 1 else group.name


def _primary(groups: Sequence[Group]) -> list[str]:
    """The first protocol of each data set that is tested."""
    runs = [group.runs[0] for group in groups if group.runs[0].protocols()]
    found = [primary_protocol(run.config.data.name, run.protocols()) for run in runs]
    return list(dict.fromkeys(found))


def _differing(groups: Sequence[Group]) -> str:
    found = differences(groups)
    head = ["field", *(text(group.name) for group in groups)]
    lines = [
        [text(name), *(text("-" if value is None else value) for value in values)]
        for name, values in found.items()
    ]
    words = note("Fields whose values differ; a dash where a method has no such field.")
    return section("config", "Configs", words, table(head, lines))
