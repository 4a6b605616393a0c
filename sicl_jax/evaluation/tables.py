"""Results of all protocols as a table: for the terminal, as JSON, CSV and LaTeX.

People are shown percent, programs are given fractions.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping

import rich.box
import rich.table

from sicl_jax.evaluation.evaluate import DRAWS
from sicl_jax.evaluation.metrics import METRICS, Result

HEADINGS = dict(zip(METRICS, ("R-1", "R-5", "R-10", "R-20", "mAP", "mINP"), strict=True))
_CAMERA = "/camera_"
_LATEX = {character: f"\\{character}" for character in "_%&#$"}


def describe(
    dataset: str, epoch: int | None, stream: str, *, flip: bool, reranked: bool, draws: int = DRAWS
) -> str:
    """What was tested, and how: all that tells these figures from those of the plain test.

    Args:
        dataset: Name of the data set.
        epoch: Epochs that the model was trained, None if nobody knows.
        stream: Which features were compared.
        flip: Whether each image's features were averaged with its mirror image's.
        reranked: Whether k-reciprocal re-ranking was applied.
        draws: Number of drawn galleries.
    """
    parts = [
        dataset,
        "" if epoch is None else f"epoch {epoch}",
        f"{stream} features",
        "averaged with the mirror image's" if flip else "",
        "re-ranked" if reranked else "",
        f"{draws} draws" if draws != DRAWS else "",
    ]
    return ", ".join(part for part in parts if part)


def text_table(results: Mapping[str, Result], title: str | None = None) -> rich.table.Table:
    """A table for the terminal, in percent, that fits 80 columns.

    Below the figures over drawn galleries stands their standard deviation over the draws, below
    those with a bootstrap the interval's bounds, and below those of all queries those of each
    camera's, if `metrics.by_camera` has added them.

    Args:
        results: Results by the protocol's name.
        title: Printed above.
    """
    table = rich.table.Table(
        title=title, title_justify="left", box=rich.box.SIMPLE_HEAD, show_edge=False
    )
    table.padding = 0  # Columns are set apart by the box and the figures' width.
    table.add_column("protocol", no_wrap=True)
    for heading in (*HEADINGS.values(), "queries", "skipped"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len("100.0") + 1)
    group = None
    for name, result in results.items():
        name, _, camera = name.partition(_CAMERA)
        if camera:
            label = f"{'  ' if '/' in name else ''}  camera {camera}"
            table.add_row(label, *_percent(result.figures()), *_counts(result), style="dim")
            continue
        head, _, rest = name.partition("/")
        if rest and head != group:
            table.add_row(head)
        group = head
        indent = "  " if rest else ""
        table.add_row(indent + (rest or head), *_percent(result.figures()), *_counts(result))
        for label, figures in _spreads(result):
            table.add_row(f"{indent}  {label}", *_percent(figures), style="dim")
    return table


def _spreads(result: Result) -> Iterator[tuple[str, dict[str, float]]]:
    """What stands below a result's figures: a label and a number for each."""
    if result.std is not None:
        yield f"± over {result.draws} draws", dict(result.std)
    if result.interval is not None:
        yield "bootstrap, low", {name: low for name, (low, _) in result.interval.items()}
        yield "bootstrap, high", {name: high for name, (_, high) in result.interval.items()}


def _counts(result: Result) -> tuple[str, str]:
    return str(result.queries), str(result.skipped)


def _percent(figures: Mapping[str, float]) -> list[str]:
    return [f"{100 * figures[metric]:.1f}" for metric in METRICS]


def json_text(results: Mapping[str, Result], **about: object) -> str:
    """A JSON object with `protocols`, from the protocol's name to its figures as fractions.

    Args:
        results: Results by the protocol's name.
        **about: Further entries of the object, such as the data set and the checkpoint.
    """
    protocols = {name: result.as_dict() for name, result in results.items()}
    return json.dumps({**about, "protocols": protocols}, indent=2)


def csv_text(results: Mapping[str, Result], **about: object) -> str:
    """CSV with a header and a line for each protocol, in fractions.

    The columns are always the same; `std` and bounds that were not made are left empty.

    Args:
        results: Results by the protocol's name.
        **about: Further columns, the same in every line, such as the data set and the checkpoint.
    """
    names = [
        *METRICS,
        *(f"{metric}_{what}" for metric in METRICS for what in ("std", "low", "high")),
    ]
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(["protocol", *names, "queries", "skipped", "draws", *about])
    for protocol, result in results.items():
        values = _flat(result)
        row = [values.get(name, "") for name in names]
        counts = (result.queries, result.skipped, result.draws)
        writer.writerow([protocol, *row, *counts, *about.values()])
    return output.getvalue()


def latex_text(results: Mapping[str, Result], title: str | None = None) -> str:
    """A LaTeX tabular (package booktabs), in percent.

    Args:
        results: Results by the protocol's name.
        title: Stands above the columns' headings, within the table, so that it goes where the
            figures go.
    """
    width = 1 + len(METRICS)
    head = rf"\multicolumn{{{width}}}{{l}}{{{in_latex(title)}}} \\" if title else ""
    lines = [
        r"\begin{tabular}{l" + "r" * len(METRICS) + "}",
        r"\toprule",
        *([head, r"\midrule"] if head else []),
        " & ".join(["Protocol", *HEADINGS.values()]) + r" \\",
        r"\midrule",
    ]
    for name, result in results.items():
        figures = [_latex_figure(result, metric) for metric in METRICS]
        lines.append(" & ".join([in_latex(name), *figures]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def in_latex(words: str) -> str:
    """Plain text as LaTeX."""
    return "".join(_LATEX.get(character, character) for character in words)


def _latex_figure(result: Result, metric: str) -> str:
    words = f"{100 * getattr(result, metric):.1f}"
    if result.std is not None:
        words += rf"\,$\pm$\,{100 * result.std[metric]:.1f}"
    if result.interval is not None:
        low, high = result.interval[metric]
        words += rf" {{\scriptsize[{100 * low:.1f}, {100 * high:.1f}]}}"
    return words


def _flat(result: Result) -> dict[str, float]:
    values = result.figures()
    for metric, deviation in (result.std or {}).items():
        values[f"{metric}_std"] = deviation
    for metric, (low, high) in (result.interval or {}).items():
        values |= {f"{metric}_low": low, f"{metric}_high": high}
    return values
