"""The curves of a run, as far as it has come."""

from sicl_jax.evaluation import primary_protocol
from sicl_jax.report.charts import Curve, line_chart
from sicl_jax.report.document import element, note, section
from sicl_jax.runs.metrics import RunLog

# Numbers of an epoch's line that have their place in a chart, or need none.
_PLACED = frozenset(
    {
        "step", "epoch", "loss", "learning_rate", "images_per_second", "unclustered",
        "clusters", "pseudo_identities", "ari", "nmi", "purity", "seconds_clustering",
        "seconds_training",
    }
)  # fmt: skip


def curves_section(log: RunLog) -> str:
    """Losses, tests, clusters, their agreement with identities, learning rate, time."""
    charts = "".join(
        (
            line_chart("Loss", [Curve("loss", log.curve("loss"))], zero=False),
            line_chart(
                "Terms of the loss",
                [Curve(name.replace("_", " "), log.term_curve(name)) for name in log.terms()],
                zero=False,
            ),
            *_tests(log),
            line_chart("Clusters of two images or more", [_groups(log)]),
            _unclustered(log),
            line_chart(
                "Clusters against identities",
                [Curve(words, log.curve(name)) for name, words in _AGREEMENT.items()],
                words=_two_digits,
                top=1.0,
            ),
            *(
                line_chart(name.replace("_", " ").capitalize(), [_named(log, name)])
                for name in log.figures()
                if name not in _PLACED
            ),
            line_chart("Learning rate", [_named(log, "learning_rate")], words="{:.2g}".format),
            line_chart("Seconds an epoch", _seconds(log)),
            line_chart("Images per second", [_named(log, "images_per_second")]),
        )
    )
    if not charts:
        words = note("No epoch has been finished yet.")
        return section("curves", "Curves", words)
    words = note(
        "Point at a chart, or use the arrow keys, for the values; every chart has a table."
    )
    return section("curves", "Curves", words, element("div", charts, class_="charts"))


_AGREEMENT = {"ari": "adjusted Rand index", "nmi": "mutual information", "purity": "purity"}


def percent(value: float) -> str:
    """A share in percent."""
    return f"{100 * value:.4g}%"


def _two_digits(value: float) -> str:
    return f"{value:.2f}"


def _named(log: RunLog, name: str) -> Curve:
    return Curve(name.replace("_", " "), log.curve(name))


def _tests(log: RunLog) -> list[str]:
    """A chart for the primary protocol, and one for the others' mAP."""
    names = log.protocols()
    if not names:
        return []
    primary = primary_protocol(log.config.data.name, names)
    figures = (("rank1", "rank-1"), ("rank5", "rank-5"), ("mAP", "mAP"))
    main = [Curve(words, log.test_curve(primary, figure)) for figure, words in figures]
    charts = [line_chart(f"Test: {primary}", main, words=percent, top=1.0)]
    # A trimmed mean lies on the whole one.
    shown = [name for name in names if not name.endswith("_trimmed")]
    others = [Curve(name, log.test_curve(name, "mAP")) for name in shown]
    if len(others) > 1:
        charts.append(line_chart("Test: mAP of all protocols", others, words=percent))
    return charts


def _groups(log: RunLog) -> Curve:
    alone = dict(log.curve("unclustered"))
    points = [
        (epoch, count - alone[epoch])
        for epoch, count in log.curve("pseudo_identities")
        if epoch in alone
    ]
    return Curve("clusters", points)


def _unclustered(log: RunLog) -> str:
    images = log.start.get("images")
    if not images:
        return ""
    share = [(epoch, count / images) for epoch, count in log.curve("unclustered")]
    return line_chart("Share of lone images", [Curve("lone", share)], words=percent, top=1.0)


def _seconds(log: RunLog) -> list[Curve]:
    return [
        Curve("training", log.curve("seconds_training")),
        Curve("clustering", log.curve("seconds_clustering")),
        Curve("test", [(line["epoch"], line["seconds"]) for line in log.tests]),
    ]
