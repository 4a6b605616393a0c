"""What a config's fields mean, their defaults, and what they may hold.

The fields that all methods share stand here; a method brings its own (`Method.fields`). A slip is
told before hours of work and not within, and `sicl-jax config --explain` prints this table.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Self

from sicl_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Rule:
    """What values make sense.

    Attributes:
        fits: Whether a value of the default's type does.
        words: The same for a person, after "has to be".
    """

    fits: Callable[[Any], bool]
    words: str

    def each(self, least: int, most: int | None = None) -> "Rule":
        """The rule for each of several values, of which there may be `least` to `most`."""
        most = least if most is None else most
        count = str(least) if least == most else f"{least} to {most}"
        return Rule(
            lambda values: least <= len(values) <= most and all(map(self.fits, values)),
            f"{count}, {self.words}",
        )


def within(low: float, high: float) -> Rule:
    """Numbers from `low` to `high`."""
    return Rule(lambda value: low <= value <= high, f"from {low:g} to {high:g}")


def above_zero(high: float) -> Rule:
    """Numbers above 0, at most `high`."""
    return Rule(lambda value: 0 < value <= high, f"above 0, at most {high:g}")


def multiple_of(unit: int, high: int) -> Rule:
    """Multiples of a whole number up to `high`."""
    return Rule(
        lambda value: 0 < value <= high and value % unit == 0,
        f"a multiple of {unit}, at most {high:g}",
    )


def one_of(*choices: str) -> Rule:
    """One of several words."""
    return Rule(lambda value: value in choices, f"one of {', '.join(choices)}")


ANYTHING = Rule(lambda _: True, "anything")
# The upper bounds are far beyond use; they keep a slip or a stranger from filling the memory.
COUNT, COUNT_OR_NONE = within(1, 1e6), within(0, 1e6)
SHARE = within(0, 1)
SIZE = within(1, 4096).each(2)


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a config.

    Attributes:
        default: Its value where a config file says nothing; its type is the field's.
        rule: What values make sense.
        meaning: One sentence.
        changes_results: False for what only says how a run is carried out: a workdir may be
            resumed with another value.
    """

    default: Any
    rule: Rule
    meaning: str
    changes_results: bool = True

    def but(self, default: Any) -> Self:
        """The same field with another default."""
        return dataclasses.replace(self, default=default)


COMMON: Mapping[str, Field] = {
    "method": Field("sicl", ANYTHING, "The method, by its registered name."),
    "seed": Field(0, within(0, 2**32 - 2), "Decides all that is random."),
    "epochs": Field(60, COUNT, "Epochs of the run."),
    "batch_size": Field(64, COUNT, "Images in a step's batch, over all devices."),
    "data.name": Field("prcc", ANYTHING, "The prepared data set, or several as one: prcc+ltcc."),
    "data.dir": Field("data", ANYTHING, "Where it was prepared.", changes_results=False),
    "data.image_size": Field((256, 128), SIZE, "Height and width that images are resized to."),
    "data.resize": Field(
        "bicubic", one_of("bicubic", "bilinear", "lanczos"), "Filter by which images are resized."
    ),
    "data.device_budget_gb": Field(
        0.0,
        COUNT_OR_NONE,
        "Memory for images on each device in 10^9 bytes; larger data are fed from the host. "
        "0 is 40 % of what the device has.",
        changes_results=False,
    ),
    "model.pretrained": Field(
        "",
        ANYTHING,
        "Weights to start from: a file, a run's folder, a name that the method knows, or nothing.",
    ),
    "model.dtype": Field(
        "auto",
        one_of("auto", "float32", "bfloat16"),
        "Computation type of the network; auto is bfloat16 on accelerators, float32 on CPUs.",
    ),
    "optimizer.learning_rate": Field(3.5e-4, above_zero(1e30), "Base rate of Adam."),
    "optimizer.weight_decay": Field(
        5e-4, within(0, 1e30), "Decay, added to the gradient (L2, not decoupled)."
    ),
    "schedule.name": Field(
        "step",
        one_of("constant", "step", "multistep", "cosine"),
        "How the rate changes from epoch to epoch.",
    ),
    "schedule.every": Field(20, COUNT, "Of step: epochs between two changes."),
    "schedule.gamma": Field(0.1, within(0, 1e30), "Of step and multistep: factor of a change."),
    "schedule.milestones": Field(
        (), COUNT_OR_NONE.each(0, 1000), "Of multistep: epochs at which the rate changes."
    ),
    "schedule.start": Field(0, COUNT_OR_NONE, "Of cosine: the epoch at which it leaves 1."),
    "schedule.end": Field(60, COUNT, "Of cosine: the epoch at which it reaches its floor."),
    "schedule.floor": Field(0.0, SHARE, "Of cosine: its last factor."),
    "schedule.warmup_epochs": Field(0, COUNT_OR_NONE, "Epochs of a linear warm-up before it."),
    "schedule.warmup_factor": Field(0.1, SHARE, "Factor with which the warm-up begins."),
    "schedule.unit": Field(
        "epoch",
        one_of("epoch", "step"),
        "epoch keeps the rate constant within an epoch, as the published codes do; step does not.",
    ),
    "steps_per_call": Field(
        0,
        COUNT_OR_NONE,
        "Steps in one compiled call; 0 chooses 1 on CPUs and 10 to 50 on accelerators.",
        changes_results=False,
    ),
    "checkpoint_every_steps": Field(
        0,
        COUNT_OR_NONE,
        "Checkpoints within an epoch, every so many steps; 0: at the end of epochs only.",
        changes_results=False,
    ),
    "embed_batch_size": Field(
        256, COUNT, "Images in a batch when features are made.", changes_results=False
    ),
    "evaluate.before": Field(True, ANYTHING, "Whether the untrained model is tested."),
    "evaluate.every": Field(5, COUNT, "Test every so many epochs,"),
    "evaluate.always_after": Field(30, COUNT_OR_NONE, "and every epoch after this one."),
    "evaluate.flip": Field(
        False, ANYTHING, "Whether features are summed over an image and its mirror image."
    ),
    "evaluate.select_by": Field(
        "",
        ANYTHING,
        "Protocol whose mAP chooses the best checkpoint; by default the validation split's where "
        "there is one, else the data set's first; released is the published code's choice.",
    ),
}

RESNET: Mapping[str, Field] = {
    "model.block": Field("bottleneck", one_of("basic", "bottleneck"), "Blocks of the ResNet."),
    "model.stage_sizes": Field((3, 4, 6, 3), within(1, 100).each(1, 8), "Blocks of each stage."),
    "model.width": Field(64, within(1, 4096), "Channels of the stem."),
    "model.last_stride": Field(1, within(1, 2), "Stride of the last stage."),
    "model.batch_norm_parts": Field(
        1,
        within(1, 1024),
        "Contiguous parts of the batch with batch statistics of their own, as DataParallel on as "
        "many devices has it; running averages follow the first part.",
    ),
}
"""Fields of methods whose encoder is `models.resnet.ResNet`."""

AUGMENT: Mapping[str, Field] = {
    "augment.grey": Field(0.0, SHARE, "Probability of luminance in all three channels."),
    "augment.flip": Field(0.5, SHARE, "Probability of a mirror image."),
    "augment.enlarge": Field(0.0, SHARE, "Probability of enlarging before a crop of the old size."),
    "augment.enlarge_by": Field(1.05, within(1, 10), "Factor by which images are enlarged."),
    "augment.pad": Field(10, within(0, 4096), "Pixels of zeros on each side before the crop."),
    "augment.erase": Field(0.5, SHARE, "Probability of erasing one rectangle."),
    "augment.erase_area": Field(
        (0.02, 0.4), above_zero(1).each(2), "Least and largest share of the area erased."
    ),
    "augment.erase_aspect": Field(
        (0.3, 1 / 0.3), above_zero(1e6).each(2), "Least and largest height over width erased."
    ),
    "augment.erase_log_aspect": Field(
        False, ANYTHING, "Whether the logarithm of that ratio is uniform, not the ratio."
    ),
    "augment.erase_tries": Field(
        100, within(1, 1000), "Rectangles drawn until one fits; if none does, none is erased."
    ),
    "augment.erase_fill": Field(
        (0.485, 0.456, 0.406),
        within(-100, 100).each(3),
        "Colour of the rectangle, set after normalisation.",
    ),
}

CLUSTERING: Mapping[str, Field] = {
    "clustering.k1": Field(30, COUNT, "Neighbours of the k-reciprocal encoding."),
    "clustering.k2": Field(6, COUNT, "Neighbours over which encodings are averaged."),
    "clustering.eps": Field(0.6, above_zero(1), "Largest Jaccard distance of DBSCAN's neighbours."),
    "clustering.min_samples": Field(4, COUNT, "Neighbours that make a core point of DBSCAN."),
}

RENAMED: Mapping[str, str] = {
    "learning_rate": "optimizer.learning_rate",
    "weight_decay": "optimizer.weight_decay",
    "lr_step": "schedule.every",
    "lr_gamma": "schedule.gamma",
    "num_instances": "sampler.num_instances",
}
"""Names that fields had in earlier versions."""


def misfit(fields: Mapping[str, Field], values: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first field whose value makes no sense, and the values that do; None where all fit.

    Args:
        fields: By dotted name.
        values: Of the defaults' types, by dotted name; some may be missing.
    """
    for name, field in fields.items():
        if name in values and not field.rule.fits(values[name]):
            return name, field.rule.words
    return None


def check_together(config: Mapping[str, Any]) -> None:
    """Refuses values that make sense each by itself, but not together.

    Args:
        config: All fields, in groups.

    Raises:
        UsageError: A batch does not hold whole groups of images; images are smaller than what one
            number of the last map sees move by (its stride).
    """
    each = config.get("sampler", {}).get("num_instances", 1)
    if config["batch_size"] % each:
        raise UsageError(
            f"--config.batch_size={config['batch_size']}: has to be a multiple of "
            f"--config.sampler.num_instances={each}"
        )
    model = config["model"]
    if "stage_sizes" not in model:
        return
    stride = 2 ** len(model["stage_sizes"]) * model.get("last_stride", 1)
    size = tuple(config["data"]["image_size"])
    if min(size) < stride:
        raise UsageError(
            f"--config.data.image_size={size}: too small, the network's maps have a stride of "
            f"{stride} pixels; 256 x 128 is usual, 64 x 32 the least of use"
        )


def has_type(value: Any, like: Any) -> bool:
    """Whether a value has the type of a default, whole numbers counting as floats."""
    if isinstance(like, tuple):
        element = like[0] if like else 0
        return isinstance(value, tuple) and all(has_type(item, element) for item in value)
    return type(value) is type(like) or (isinstance(like, float) and type(value) is int)
