"""What the benchmarks of training share: model FLOPs, a device's matrix rate, fair timing."""

import math
import statistics
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp


def matrix_flops(function: Callable, *arguments) -> int:
    """FLOPs of the matrix products and convolutions that a call makes (2 per multiply-add)."""
    return _flops_of(jax.make_jaxpr(function)(*arguments).jaxpr)


def _flops_of(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, output = equation.primitive.name, equation.outvars[0].aval
        if name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            out_axis = equation.params["dimension_numbers"].rhs_spec[0]
            total += 2 * output.size * math.prod(kernel) // kernel[out_axis]
        elif name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * output.size * math.prod(shape[axis] for axis in contracted)
        total += sum(_flops_of(inner) for inner in jax.core.jaxprs_in_params(equation.params))
    return total


def matrix_rate(dtype, size: int = 0) -> float:
    """FLOP/s of large square matrix products of a type, as measured on this device."""
    size = size or (1024 if jax.default_backend() == "cpu" else 8192)
    matrix = jax.random.normal(jax.random.key(0), (size, size)).astype(dtype)

    @jax.jit
    def chain(x):
        for _ in range(8):
            x = (x @ matrix) / math.sqrt(size)
        return x

    chain(matrix).block_until_ready()
    best = min(seconds_of(lambda: chain(matrix)) for _ in range(5))
    return 8 * 2 * size**3 / best


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds until the arrays that `work` returns are there."""
    begin = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - begin


def taking_turns(work: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Runs several measurements in turns, so that a busy moment touches all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds):
        names = list(work) if number % 2 == 0 else list(reversed(work))
        for name in names:
            seconds[name].append(work[name]())
    return seconds


def median_ratio(of: list[float], over: list[float]) -> float:
    """Median over the rounds of one measurement divided by another."""
    return statistics.median(a / b for a, b in zip(of, over, strict=True))


def dtype_name(dtype) -> str:
    """`float32` or `bfloat16`."""
    return jnp.dtype(dtype).name
