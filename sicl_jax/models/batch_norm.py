"""Batch normalisation with PyTorch's conventions, statistics at least in float32."""

import jax
import jax.numpy as jnp
from flax import nnx

from sicl_jax.models.layers import ONES, ZEROS, param, statistic, wide


class BatchNorm(nnx.Module):
    """Normalises over all axes but the last.

    Differs from `flax.nnx.BatchNorm` where PyTorch does: the running variance is the unbiased one,
    and `momentum` is the weight of the *new* batch. Under `jax.jit` with the batch split over
    devices the statistics are those of the global batch.

    Args:
        num_features: Size C of the last axis.
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
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        train_scale: bool = True,
        train_bias: bool = True,
    ):
        self.momentum = momentum
        self.epsilon = epsilon
        self.scale = param((num_features,), ONES, trained=train_scale)
        self.bias = param((num_features,), ZEROS, trained=train_bias)
        self.mean = statistic((num_features,), ZEROS)
        self.var = statistic((num_features,), ONES)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Normalises `x` (..., C); in training by the batch's statistics, which it also tracks."""
        if train:
            mean, var = self._batch_statistics(x)
        else:
            mean, var = self.mean[...], self.var[...]
        factor = self.scale[...] * jax.lax.rsqrt(var + self.epsilon)
        offset = self.bias[...] - mean * factor
        return (wide(x) * factor + offset).astype(x.dtype)

    def _batch_statistics(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and biased variance, both from one reading of `x`.

        Moments are taken about the running mean: they lose digits only where the batch's mean is
        many standard deviations away from it. The two-pass formula reads `x` twice, and once more
        for a gradient that is always 0 (docs/performance.md).
        """
        axes = tuple(range(x.ndim - 1))
        count = x.size // x.shape[-1]
        about = self.mean[...]
        shifted = wide(x) - about
        offset = jnp.mean(shifted, axes)
        mean = about + offset
        var = jnp.maximum(jnp.mean(jnp.square(shifted), axes) - jnp.square(offset), 0.0)
        unbiased = var * (count / max(count - 1, 1))
        self.mean[...] = (1 - self.momentum) * self.mean[...] + self.momentum * mean
        self.var[...] = (1 - self.momentum) * self.var[...] + self.momentum * unbiased
        return mean, var
