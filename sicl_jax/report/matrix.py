"""Several runs against several data sets: how each model does where it was not trained."""

import csv
import dataclasses
import io
import json
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import rich.table
import rich.text

from sicl_jax import inference
from sicl_jax.data.store import find_directory
from sicl_jax.errors import UserError
from sicl_jax.evaluation import METRICS, Result, primary_protocol
from sicl_jax.evaluation.progress import MakeBar, silent
from sicl_jax.evaluation.tables import HEADINGS, in_latex
from sicl_jax.register import parts_of
from sicl_jax.report.charts import heat_map
from sicl_jax.report.comparison import Group, in_short
from sicl_jax.report.document import document, element, note, section, table, text
from sicl_jax.training.testing import test_on


@dataclasses.dataclass(frozen=True, eq=False)
class Matrix:
    """Results of runs on data sets.

    Attributes:
        groups: The runs, a row each; those that differ in the seed alone are one.
        datasets: The data sets, a column each.
        results: Of each seed by protocol, by (row, data set); no entry where a run could not be
            tested.
    """

    groups: Sequence[Group]
    datasets: Sequence[str]
    results: Mapping[tuple[int, str], Sequence[Mapping[str, Result]]]

    def protocol(self, row: int, dataset: str) -> str:
        """The data set's primary protocol, by which a cell's figure is."""
        return primary_protocol(dataset, self.results[row, dataset][0])

    def cell(self, row: int, dataset: str, figure: str) -> tuple[float, float | None] | None:
        """Mean and sample standard deviation over the seeds, None for the latter of one alone.

        None for a cell that is empty.
        """
        if (row, dataset) not in self.results:
            return None
        protocol = self.protocol(row, dataset)
        return _summed_up([each[protocol] for each in self.results[row, dataset]], figure)

    def trained_on(self, row: int) -> list[str]:
        """Data sets of a row's training."""
        return parts_of(self.groups[row].runs[0].config.data.name)


def measure(
    groups: Sequence[Group],
    datasets: Sequence[str] = (),
    *,
    data_dir: pathlib.Path | None = None,
    batch_size: int | None = None,
    progress: MakeBar = silent,
    warn: Callable[[str], None] = print,
) -> Matrix:
    """Tests every run's best checkpoint on every data set.

    Args:
        groups: Runs, by `comparison.read`.
        datasets: Names of prepared data sets; all that any of the runs was trained on if empty.
        data_dir: Where they were prepared; each run's config says so if None.
        batch_size: Images in a batch; the config's if None.
        progress: Makes progress bars.
        warn: Told of a run that could not be tested on a data set, and why.

    Raises:
        UserError: A data set is not there, or no run could be tested on any.
    """
    runs = [(row, run) for row, group in enumerate(groups) for run in group.runs]
    named = (name for _, run in runs for name in parts_of(run.config.data.name))
    datasets = list(datasets or dict.fromkeys(named))
    for _, run in runs:
        for part in (part for name in datasets for part in parts_of(name)):
            find_directory(part, data_dir or run.config.data.dir)
    results: dict[tuple[int, str], list[Mapping[str, Result]]] = {}
    for row, run in runs:
        model = inference.load_run(run.folder)
        for name in datasets:
            options = {"data_dir": data_dir, "batch_size": batch_size, "progress": progress}
            try:
                results.setdefault((row, name), []).append(test_on(model, name, **options)[1])
            except UserError as error:
                warn(f"{run.folder} is not tested on {name}: {error}")
    whole = {place: found for place, found in results.items() if found}
    if not whole:
        raise UserError("no run could be tested on any of these data sets; see the warnings")
    return Matrix(groups, datasets, whole)


def _summed_up(results: Sequence[Result], figure: str) -> tuple[float, float | None]:
    values = [getattr(result, figure) for result in results]
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


# ---- as text -------------------------------------------------------------------------------


def rows(matrix: Matrix) -> list[dict[str, Any]]:
    """A row for each run, data set and protocol, with all figures; fractions."""
    found = []
    for (row, dataset), of_seeds in matrix.results.items():
        config = matrix.groups[row].runs[0].config
        for protocol in of_seeds[0]:
            line = {
                "runs": matrix.groups[row].name,
                "seeds": len(of_seeds),
                "method": config.method,
                "trained_on": config.data.name,
                "dataset": dataset,
                "protocol": protocol,
                "primary": protocol == matrix.protocol(row, dataset),
            }
            for figure in METRICS:
                mean, std = _summed_up([each[protocol] for each in of_seeds], figure)
                line |= {figure: mean, f"{figure}_std": std}
            found.append(line)
    return found


def json_text(matrix: Matrix) -> str:
    """All rows for other programs."""
    return json.dumps(rows(matrix))


def csv_text(matrix: Matrix) -> str:
    """All rows as CSV; deviations of single runs are left empty."""
    found = rows(matrix)
    output = io.StringIO(newline="")
    writer = csv.DictWriter(output, list(found[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return output.getvalue()


def text_table(matrix: Matrix, figure: str) -> rich.table.Table:
    """The matrix of one figure for a terminal, in percent."""
    shown = rich.table.Table(title=describe(figure), title_justify="left")
    shown.add_column("runs", overflow="fold")
    for dataset in matrix.datasets:
        shown.add_column(rich.text.Text(dataset), justify="right")
    for row, group in enumerate(matrix.groups):
        cells = [_cell(matrix, row, dataset, figure) for dataset in matrix.datasets]
        shown.add_row(rich.text.Text(group.name), *cells)
    return shown


def latex_text(matrix: Matrix, figure: str) -> str:
    """The matrix of one figure as a LaTeX tabular (package booktabs), in percent."""
    matrix, _ = _in_short(matrix)
    lines = [
        f"% {describe(figure)}",
        r"\begin{tabular}{l" + "r" * len(matrix.datasets) + "}",
        r"\toprule",
        " & ".join([figure, *map(in_latex, matrix.datasets)]) + r" \\",
        r"\midrule",
    ]
    for row, group in enumerate(matrix.groups):
        cells = [_cell(matrix, row, dataset, figure) for dataset in matrix.datasets]
        shown = [cell.replace(" ± ", r"\,$\pm$\,").replace("*", "$^*$") for cell in cells]
        lines.append(" & ".join([in_latex(group.name), *shown]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def describe(figure: str) -> str:
    """What the cells are."""
    return (
        f"{HEADINGS[figure]} of best checkpoints under each data set's first protocol, percent; "
        "* trained on it, ± standard deviation over seeds"
    )


def _cell(matrix: Matrix, row: int, dataset: str, figure: str) -> str:
    found = matrix.cell(row, dataset, figure)
    if found is None:
        return "-"
    mean, std = found
    words = f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")
    return f"{words}*" if dataset in matrix.trained_on(row) else words


def _in_short(matrix: Matrix) -> tuple[Matrix, str]:
    groups, shared = in_short(matrix.groups)
    return dataclasses.replace(matrix, groups=groups), shared


# ---- as a picture and a page ---------------------------------------------------------------


def picture(matrix: Matrix, figure: str) -> str:
    """The matrix of one figure as an SVG file."""
    matrix, _ = _in_short(matrix)
    means = [
        [found and found[0] for found in (matrix.cell(row, d, figure) for d in matrix.datasets)]
        for row in range(len(matrix.groups))
    ]
    names = [group.name for group in matrix.groups]
    title = f"{HEADINGS[figure]} of runs (rows) on data sets (columns)"
    return heat_map(title, names, matrix.datasets, means, words=lambda value: f"{100 * value:.1f}")


def page(matrix: Matrix, figure: str) -> str:
    """The matrix as one HTML file: picture, table, and all protocols' figures."""
    matrix, shared = _in_short(matrix)
    lines = [
        [text(group.name), *(_cell(matrix, row, dataset, figure) for dataset in matrix.datasets)]
        for row, group in enumerate(matrix.groups)
    ]
    chosen = section(
        "matrix",
        HEADINGS[figure],
        note(f"{describe(figure)}."),
        element("div", picture(matrix, figure), class_="scroll"),
        table(["runs", *map(text, matrix.datasets)], lines),
    )
    names = ("runs", "seeds", "trained_on", "dataset", "protocol")
    details = [
        [*(text(line[name]) for name in names), *(f"{100 * line[f]:.1f}" for f in METRICS)]
        for line in rows(matrix)
    ]
    head = [*(text(name.replace("_", " ")) for name in names), *HEADINGS.values()]
    everything = section("all", "All protocols", table(head, details))
    parts = [("matrix", HEADINGS[figure]), ("all", "All protocols")]
    return document(
        "Transfer",
        f"{sum(len(group.runs) for group in matrix.groups)} runs, {len(matrix.groups)} configs, in "
        f"{shared}, on {len(matrix.datasets)} data sets",
        chosen + everything,
        parts=parts,
    )
