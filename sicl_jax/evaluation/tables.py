"""Results of all protocols as a table: for the terminal, as JSON, CSV and LaTeX.

People are shown percent, programs are given fractions.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping

import rich.box
import rich.table

from sicl_jax.evaluation.metrics import METRICS, Result

HEADINGS = dict(zip(METRICS, ("R-1", "R-5", "R-10", "R-20", "mAP", "mINP"), strict=True))


def text_table(results: Mapping[str, Result], title: str | None = None) -> rich.table.Table:
    """A table for the terminal, in percent, that fits 80 columns.

    Below the figures over drawn galleries stands their standard deviation over the draws, and
    below those with a bootstrap the interval's bounds.

    Args:
        results: results by the protocol's name.
        title: printed above.
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
        head, _, rest = name.partition("/")
        if rest and head != group:
            table.add_row(head)
        group = head
        indent = "  " if rest else ""
        counts = (str(result.queries), str(result.skipped))
        table.add_row(indent + (rest or head), *_percent(result.figures()), *counts)
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


def _percent(figures: Mapping[str, float]) -> list[str]:
    return [f"{100 * figures[metric]:.1f}" for metric in METRICS]


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
        lines.append(" & ".join([name.replace("_", r"\_"), *figures]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _in_latex(result: Result, metric: str) -> str:
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
