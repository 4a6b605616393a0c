"""Batch normalisation with PyTorch's conventions, statistics at least in float32."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx

from sicl_jax.models.layers import ONES, ZEROS, param, statistic, wide


class BatchNorm(nnx.Module):
    """Normalises over all axes but the last.

    Differs from `flax.nnx.BatchNorm` where PyTorch does: the running variance is the unbiased one,
    and `momentum` is the weight of the *new* batch.

    With `parts` it computes what PyTorch's DataParallel does on as many GPUs
    (`docs/methods/cluster_contrast.md` section 2): the batch is cut into contiguous parts of
    ceil(B / parts) samples, the last of which may be smaller, each is normalised by its own
    statistics, and the running ones follow the first part alone. The number of devices changes
    nothing: statistics are those of whole parts. A device that holds whole parts needs no other's
    numbers to normalise them.

    Args:
        num_features: Size C of the last axis.
        parts: Into how many parts a training batch is cut.
        momentum: Weight of the new batch in the running statistics.
        epsilon: Added to the variance.
        train_scale: Whether the scale is trained.
        train_bias: Whether the bias is trained; SiCL freezes it at 0 after pooling and projections
            (arXiv 2305.13600, section 3; `algorithm.md` section 2).
    """

    def __init__(
        self,
        num_features: int,
        *,
        parts: int = 1,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        train_scale: bool = True,
        train_bias: bool = True,
    ):
        self.parts = parts
        self.momentum = momentum
        self.epsilon = epsilon
        self.scale = param((num_features,), ONES, trained=train_scale)
        self.bias = param((num_features,), ZEROS, trained=train_bias)
        self.mean = statistic((num_features,), ZEROS)
        self.var = statistic((num_features,), ONES)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Normalises `x` (B, ..., C), in training by the statistics of its parts."""
        if not train:
            moments = self.mean[...], self.var[...]
            return _by_moments(x, *moments, self.scale[...], self.bias[...], epsilon=self.epsilon)
        if self.parts == 1:  # Another axis would cost a fifth of a step's bytes on CPUs.
            return self._normalise(x, tuple(range(x.ndim - 1)), track=True)
        axes = tuple(range(1, x.ndim))
        size = -(-len(x) // self.parts)
        full = len(x) // size * size
        normalised = self._normalise(x[:full].reshape(-1, size, *x.shape[1:]), axes, track=True)
        normalised = normalised.reshape(full, *x.shape[1:])
        if full == len(x):
            return normalised
        rest = self._normalise(x[None, full:], axes, track=False)
        return jnp.concatenate([normalised, rest[0]])

    def _normalise(self, x: jax.Array, axes: tuple[int, ...], *, track: bool) -> jax.Array:
        """Normalises over some axes of `x` (..., C); tracks the first of the others if asked to.

        Both moments come from one reading of `x`. They are taken about the running mean, and so
        lose digits only where a part's mean is many standard deviations away from it. The two-pass
        formula reads `x` twice, and once more for a gradient that is always 0
        (docs/performance.md).
        """
        about = self.mean[...]
        y, mean, var = _by_its_own_moments(
            x, about, self.scale[...], self.bias[...], axes=axes, epsilon=self.epsilon
        )
        if track:
            count = math.prod(x.shape[axis] for axis in axes)
            new = _running((about, self.var[...]), (mean, var), momentum=self.momentum, count=count)
            self.mean.set_value(new[0])
            self.var.set_value(new[1])
        return y


# A network has many norms of few shapes, and JAX traces and lowers a jitted function once for each
# of these: a third of what it takes to trace a training step.
@functools.partial(jax.jit, static_argnames=("axes", "epsilon"))
def _by_its_own_moments(x, about, scale, bias, *, axes, epsilon):
    """Returns `x` normalised over `axes`, the means and the biased variances of it."""
    shifted = wide(x) - about
    offset = jnp.mean(shifted, axes, keepdims=True)
    square = jnp.mean(jnp.square(shifted), axes, keepdims=True)
    mean = about + offset
    var = jnp.maximum(square - jnp.square(offset), 0.0)
    return _by_moments(x, mean, var, scale, bias, epsilon=epsilon), mean, var


@functools.partial(jax.jit, static_argnames="epsilon")
def _by_moments(x, mean, var, scale, bias, *, epsilon):
    factor = scale * jax.lax.rsqrt(var + epsilon)
    offset = bias - mean * factor
    return (wide(x) * factor + offset).astype(x.dtype)


@functools.partial(jax.jit, static_argnames=("momentum", "count"))
def _running(old, new, *, momentum, count):
    """The running mean and variance (C,) after a batch; of moments (..., C) the first counts."""
    mean, var = (moment.reshape(-1, moment.shape[-1])[0] for moment in new)
    unbiased = var * (count / max(count - 1, 1))
    mean = (1 - momentum) * old[0] + momentum * mean
    return mean, (1 - momentum) * old[1] + momentum * unbiased
