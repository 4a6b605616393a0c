"""Results of all protocols as a table: for the terminal, as JSON, CSV and LaTeX.

People are shown percent, programs are given fractions.
"""

import csv
import io
import json
from collections.abc import Mapping

import rich.table

from sicl_jax.evaluation.metrics import METRICS, Result

HEADINGS = {
    "rank1": "rank-1",
    "rank5": "rank-5",
    "rank10": "rank-10",
    "rank20": "rank-20",
    "mAP": "mAP",
    "mINP": "mINP",
}


def text_table(results: Mapping[str, Result], title: str | None = None) -> rich.table.Table:
    """A table for the terminal, in percent.

    A figure over drawn galleries is followed by its standard deviation over the draws; one with a
    bootstrap by its interval.

    Args:
        results: results by the protocol's name.
        title: printed above.
    """
    table = rich.table.Table(title=title, title_justify="left")
    table.add_column("protocol", no_wrap=True)
    for heading in (*HEADINGS.values(), "queries", "skipped"):
        table.add_column(heading, justify="right")
    for name, result in results.items():
        figures = [_in_words(result, metric) for metric in METRICS]
        table.add_row(name, *figures, str(result.queries), str(result.skipped))
    return table


def json_text(results: Mapping[str, Result], **about: object) -> str:
    """A JSON object with `protocols`, from the protocol's name to its figures as fractions.

    Args:
        results: results by the protocol's name.
        about: further entries of the object, such as the data set and the checkpoint.
    """
    protocols = {name: result.as_dict() for name, result in results.items()}
    return json.dumps({**about, "protocols": protocols}, indent=2)


def csv_text(results: Mapping[str, Result]) -> str:
    """CSV with a header and a line for each protocol, in fractions.

    The columns are always the same; `std` and bounds that were not made are left empty.
    """
    names = [
        *METRICS,
        *(f"{metric}_{what}" for metric in METRICS for what in ("std", "low", "high")),
    ]
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(["protocol", *names, "queries", "skipped", "draws"])
    for protocol, result in results.items():
        values = _flat(result)
        row = [values.get(name, "") for name in names]
        writer.writerow([protocol, *row, result.queries, result.skipped, result.draws])
    return output.getvalue()


def latex_text(results: Mapping[str, Result]) -> str:
    """A LaTeX tabular (package booktabs), in percent."""
    lines = [
        r"\begin{tabular}{l" + "r" * len(METRICS) + "}",
        r"\toprule",
        " & ".join(["Protocol", *HEADINGS.values()]) + r" \\",
        r"\midrule",
    ]
    for name, result in results.items():
        figures = [_in_latex(result, metric) for metric in METRICS]
        lines.append(" & ".join([_escaped(name), *figures]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _in_words(result: Result, metric: str) -> str:
    words = f"{100 * getattr(result, metric):.1f}"
    if result.std is not None:
        words += f" ± {100 * result.std[metric]:.1f}"
    if result.interval is not None:
        low, high = result.interval[metric]
        words += f" [{100 * low:.1f}, {100 * high:.1f}]"
    return words


def _in_latex(result: Result, metric: str) -> str:
    words = f"{100 * getattr(result, metric):.1f}"
    if result.std is not None:
        words += rf"\,$\pm$\,{100 * result.std[metric]:.1f}"
    if result.interval is not None:
        low, high = result.interval[metric]
        words += rf" {{\scriptsize[{100 * low:.1f}, {100 * high:.1f}]}}"
    return words


def _escaped(name: str) -> str:
    return name.replace("_", r"\_")


def _flat(result: Result) -> dict[str, float]:
    values = result.figures()
    for metric, deviation in (result.std or {}).items():
        values[f"{metric}_std"] = deviation
    for metric, (low, high) in (result.interval or {}).items():
        values |= {f"{metric}_low": low, f"{metric}_high": high}
    return values
