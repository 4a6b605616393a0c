"""What a config's fields may hold, so that a slip is told before hours of work and not within."""

from collections.abc import Callable, Mapping
from typing import Any

_Rule = tuple[Callable[[Any], bool], str]


def _within(low: float, high: float) -> _Rule:
    return lambda value: low <= value <= high, f"from {low:g} to {high:g}"


def _above_zero(high: float) -> _Rule:
    return lambda value: 0 < value <= high, f"above 0, at most {high:g}"


def _one_of(*choices: str) -> _Rule:
    return lambda value: value in choices, f"one of {', '.join(choices)}"


def _each(rule: _Rule, counts: range) -> _Rule:
    """A rule for each of several values, and how many there may be."""
    check, words = rule
    count = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return lambda values: len(values) in counts and all(map(check, values)), f"{count}, {words}"


_PAIR = range(2, 3)
# The upper bounds are far beyond use; they keep a slip or a stranger from filling the memory.
_COUNT, _COUNT_OR_NONE = _within(1, 1e6), _within(0, 1e6)
_RULES: dict[str, _Rule] = {
    "seed": _within(0, 2**32 - 2),
    "data.image_size": _each(_within(1, 4096), _PAIR),
    "data.mask_mode": _one_of("silhouette", "parsing"),
    "data.device_budget_gb": _COUNT_OR_NONE,
    "model.block": _one_of("basic", "bottleneck"),
    "model.stage_sizes": _each(_within(1, 100), range(1, 9)),
    "model.width": _within(1, 4096),
    "model.last_stride": _within(1, 2),
    "model.dtype": _one_of("auto", "float32", "bfloat16"),
    "memory.momentum": _within(0, 1),
    "memory.temperature": _above_zero(1e6),
    "neighbors.num": _within(0, 10_000),
    "augment.flip": _within(0, 1),
    "augment.pad": _within(0, 4096),
    "augment.erase": _within(0, 1),
    "augment.erase_area": _each(_above_zero(1), _PAIR),
    "augment.erase_aspect": _each(_above_zero(1e6), _PAIR),
    "epochs": _COUNT,
    "steps_per_epoch": _COUNT,
    "batch_size": _COUNT,
    "num_instances": _COUNT,
    "embed_batch_size": _COUNT,
    "steps_per_call": _COUNT_OR_NONE,
    "checkpoint_every_steps": _COUNT_OR_NONE,
    "learning_rate": _above_zero(1e30),
    "weight_decay": _within(0, 1e30),
    "lr_step": _COUNT,
    "lr_gamma": _within(0, 1e30),
    "evaluate.every": _COUNT,
    "evaluate.always_after": _COUNT_OR_NONE,
}


def misfit(fields: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first field whose value makes no sense, and the values that do; None where all fit.

    Args:
        fields: Values of the base config's types, by dotted name; some may be missing.
    """
    for name, (check, words) in _RULES.items():
        if name in fields and not check(fields[name]):
            return name, words
    return None
