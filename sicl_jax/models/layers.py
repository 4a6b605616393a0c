"""Layers with PyTorch's conventions, and the one truth of how their weights begin.

A weight is made as `param(shape, init)`: an `nnx.Param` that carries its distribution, and holds
zeros until it is drawn unless that is a constant. `draw` fills a whole module by these, in NumPy:
the same as JAX programs, one for each shape, takes 10 to 30 seconds to compile for a ResNet-50.

Weights are of JAX's default float type, and statistics at least float32 (`wide`), so that under
`jax_enable_x64` the same modules compute in float64.
"""

import dataclasses
import functools
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sicl_jax import devices

Initializer = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Constant:
    """One value everywhere."""

    value: float

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """The array of that value."""
        del rng
        return np.full(shape, self.value)


@dataclasses.dataclass(frozen=True)
class Normal:
    """N(0, std^2)."""

    std: float

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draws an array."""
        return rng.standard_normal(shape, np.float32) * np.float32(self.std)


@dataclasses.dataclass(frozen=True)
class KaimingNormal:
    """N(0, 2 / fan) for kernels (..., in, out), fan one of `'fan_in'` and `'fan_out'`."""

    mode: str = "fan_out"

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draws an array."""
        fan = math.prod(shape) // shape[-2 if self.mode == "fan_out" else -1]
        return rng.standard_normal(shape, np.float32) * np.float32(math.sqrt(2 / fan))


@dataclasses.dataclass(frozen=True)
class Uniform:
    """U(-bound, bound), 1 / sqrt(fan in) where no bound is given: torch's default for kernels."""

    bound: float | None = None

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draws an array."""
        bound = self.bound
        if bound is None:
            bound = 1 / math.sqrt(math.prod(shape) // shape[-1])
        return rng.uniform(-bound, bound, shape)


ZEROS, ONES = Constant(0.0), Constant(1.0)


class Frozen(nnx.Variable):
    """An array that belongs to the weights but is never trained (a bias held at zero, say)."""


def param(shape: tuple[int, ...], init: Initializer, *, trained: bool = True) -> nnx.Variable:
    """A weight of this shape that begins as `init` draws it."""
    return (nnx.Param if trained else Frozen)(_before_draw(shape, init), init=init)


def statistic(shape: tuple[int, ...], init: Initializer) -> nnx.BatchStat:
    """A running statistic of this shape that begins as `init` says."""
    return nnx.BatchStat(_before_draw(shape, init), init=init)


def _before_draw(shape: tuple[int, ...], init: Initializer) -> np.ndarray:
    # One number in NumPy, seen everywhere: a model is described without a program of JAX's.
    value = init.value if isinstance(init, Constant) else 0.0
    return np.broadcast_to(np.asarray(value, jnp.result_type(float)), shape)


def draw(module: nnx.Module, seed: int) -> None:
    """Fills a module, abstract or not, by its variables' initialisers.

    Every array has a random generator of its own, seeded by the path of its variable, so that a
    change of one module leaves the others' weights as they were. Modules side by side have theirs.

    Args:
        module: What `nnx.eval_shape` gives, or any module whose weights come from `param`.
        seed: Decides all draws.
    """
    nodes = dict(nnx.iter_graph(module))
    for path, variable in nodes.items():
        if isinstance(variable, nnx.Variable):
            value = np.empty(variable.shape, variable.dtype)
            for place, name in _places(path, nodes):
                rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
                value[place] = variable.get_metadata()["init"](rng, value[place].shape)
            variable.set_value(value)


def _places(path: tuple, nodes: Mapping[tuple, Any]) -> list[tuple[tuple[int, ...], str]]:
    """Where in a variable each array lies that is drawn, and its name."""
    found = [((), ())]
    for end in range(1, len(path) + 1):
        node = nodes[path[:end]]
        if isinstance(node, SideBySide):
            found = [
                ((*place, number), (*name, part))
                for place, name in found
                for number, part in enumerate(node.parts)
            ]
        elif not isinstance(nodes[path[: end - 1]], SideBySide):  # The one of them has no name.
            found = [(place, (*name, str(path[end - 1]))) for place, name in found]
    return [(place, ".".join(name)) for place, name in found]


class SideBySide(nnx.Module):
    """Modules of one structure, each on an input of its own, as one with a leading axis.

    So are their arrays kept: many small layers take a fraction of the kernels, in the network and
    in the optimiser, to compile and to launch (docs/performance.md).

    Args:
        make: Makes one of them; called as `module(x, train=train)`.
        parts: The name of each in the module that it belongs to, by which its weights are drawn:
            those of one name begin as equal copies.
    """

    def __init__(self, make: Callable[[], nnx.Module], parts: Sequence[str]):
        self.parts = tuple(parts)
        self.module = make()
        for _, variable in nnx.iter_graph(self.module):
            if isinstance(variable, nnx.Variable):
                value = variable.get_value()
                variable.set_value(np.broadcast_to(value, (len(self.parts), *value.shape)))

    def __call__(self, x: jax.Array, *, train: bool) -> Any:
        """Maps inputs (S, ...) to outputs, each with the leading axis S."""
        graph, state = nnx.split(self.module)

        def call(state, x):
            module = nnx.merge(graph, state)
            y = module(x, train=train)
            return y, nnx.state(module, nnx.BatchStat)

        y, statistics = jax.vmap(call)(state, x)
        if train:
            nnx.update(self.module, statistics)
        return y


def freeze(module: nnx.Module) -> None:
    """Makes all trained weights of a module `Frozen` ones."""
    for _, node in nnx.iter_modules(module):
        for name, value in list(vars(node).items()):
            if isinstance(value, nnx.Param):
                setattr(node, name, Frozen(value.get_value(), init=value.get_metadata()["init"]))


def wide(x: jax.Array) -> jax.Array:
    """`x` as float32, or as it is where that is wider: the type of statistics and losses."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def l2_normalize(x: jax.Array) -> jax.Array:
    """Rows of `x` (..., D) scaled to unit length, as `torch.nn.functional.normalize` does.

    Those shorter than 1e-12 are divided by that, a constant: the root of 0 has no gradient.
    """
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(square, 1e-24))


class Conv(nnx.Module):
    """A convolution of NHWC maps, padded symmetrically as in torch (`SAME` differs at stride 2).

    Args:
        features_in: Channels of the input.
        features_out: Channels of the output.
        kernel: Height and width of the kernel.
        stride: In both directions.
        padding: Zeros on each side; half the kernel if None.
        groups: Channel groups; as many as channels for a depthwise convolution.
        bias: Whether there is one.
        init: Of the kernel (kernel, kernel, features_in / groups, features_out).
        bias_init: Of the bias.
        dtype: Type to compute in; the weights' own if None.
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        kernel: int,
        stride: int = 1,
        *,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = False,
        init: Initializer = KaimingNormal("fan_out"),
        bias_init: Initializer = ZEROS,
        dtype=None,
    ):
        self.stride = stride
        self.padding = kernel // 2 if padding is None else padding
        self.groups = groups
        self.dtype = dtype
        self.kernel = param((kernel, kernel, features_in // groups, features_out), init)
        self.bias = param((features_out,), bias_init) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, features_in) to (B, H', W', features_out)."""
        dtype = self.dtype or x.dtype
        x, kernel = x.astype(dtype), self.kernel[...].astype(dtype)
        depthwise = self.groups == x.shape[-1] == kernel.shape[-1]
        if depthwise and self.stride == 1:
            y = _depthwise(x, kernel[:, :, 0], self.padding)
        elif self._is_product and (devices.on_cpu() or x.ndim != 4):
            # Half the time of XLA's convolution on a CPU. On a GPU it moves more bytes, and XLA
            # (jaxlib 0.10.2) aborts on the gradient of a product of strided slices.
            y = jnp.matmul(x[..., :: self.stride, :: self.stride, :], kernel[0, 0])
        elif self._reads_pictures and x.shape[2] % 2 == 0 and devices.on_cpu():
            y = _over_pairs(x, kernel, self.padding)
        elif self._exceeds(x) and devices.on_cpu():
            y = _by_columns(x, kernel, self.stride, self.padding)
        else:
            y = jax.lax.conv_general_dilated(
                x,
                kernel,
                (self.stride, self.stride),
                ((self.padding, self.padding),) * 2,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=self.groups,
            )
        return y if self.bias is None else y + self.bias[...].astype(dtype)

    @property
    def _is_product(self) -> bool:
        """Whether it is a matrix product at every pixel."""
        return self.kernel.shape[:2] == (1, 1) and self.groups == 1 and self.padding == 0

    @property
    def _reads_pictures(self) -> bool:
        """Whether it is the first of a ResNet: stride 2, an odd kernel, three channels or fewer."""
        size, _, channels, _ = self.kernel.shape
        return self.stride == 2 and self.groups == 1 and size % 2 == 1 and channels <= 3

    def _exceeds(self, x: jax.Array) -> bool:
        """Whether the kernel has more pixels than the map that it gives."""
        size = self.kernel.shape[0]
        sides = ((side + 2 * self.padding - size) // self.stride + 1 for side in x.shape[1:3])
        return self.groups == 1 and math.prod(sides) < size**2


def _by_columns(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """A convolution as one product of what lies under the kernel with the kernel.

    XLA (jaxlib 0.10.2) swaps a map and a kernel that is larger, and has no library for the result:
    3 x 3 over 4 x 2 pixels and its gradient take ten times as long on a CPU.
    """
    columns = [part for *_, part in _shifted(x, kernel.shape[:2], padding, stride)]
    return jnp.concatenate(columns, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def _over_pairs(x: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
    """A convolution of stride 2 as one of stride 1 over pairs of columns, whose channels it joins.

    The same sums, forward and backward in 0.6 of the time on a CPU, where XLA gathers the pixels
    under a kernel one by one: with three channels that takes longer than the arithmetic.
    """
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width // 2, 2 * channels)
    size, _, _, features = kernel.shape
    kernel = jnp.pad(kernel, ((0, 0), (0, 1), (0, 0), (0, 0)))
    kernel = kernel.reshape(size, (size + 1) // 2, 2 * channels, features)
    return jax.lax.conv_general_dilated(
        x, kernel, (2, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@functools.partial(jax.jit, static_argnums=2)  # Traced once for each shape.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(x: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
    """A depthwise convolution, kernel (kh, kw, C), as products of the shifted input.

    They fuse with what comes before and after; XLA's grouped convolution does not, and takes 50
    times as long on a CPU. The gradient is written out: half the program of the derived one.
    """
    return sum(shifted * kernel[i, j] for i, j, shifted in _shifted(x, kernel.shape[:2], padding))


def _depthwise_forward(x, kernel, padding):
    return _depthwise(x, kernel, padding), (x, kernel)


def _depthwise_backward(padding, saved, cotangent):
    x, kernel = saved
    height, width, channels = kernel.shape
    transposed = _depthwise(cotangent, kernel[::-1, ::-1], height - 1 - padding)
    axes = tuple(range(x.ndim - 1))
    products = [jnp.sum(s * cotangent, axes) for *_, s in _shifted(x, (height, width), padding)]
    return transposed, jnp.stack(products).reshape(height, width, channels)


_depthwise.__wrapped__.defvjp(_depthwise_forward, _depthwise_backward)


def _shifted(x: jax.Array, kernel: tuple[int, int], padding: int, stride: int = 1):
    """Yields what each position of a kernel sees: (i, j, part of the padded `x`)."""
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = (
        side - of_kernel + 1 for side, of_kernel in zip(x.shape[1:3], kernel, strict=True)
    )
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            yield i, j, x[:, i : i + height : stride, j : j + width : stride]


class Linear(nnx.Module):
    """An affine map of the last axis.

    Args:
        features_in: Size of the input.
        features_out: Size of the output.
        bias: Whether there is one.
        init: Of the kernel (features_in, features_out).
        bias_init: Of the bias.
        trained: False keeps both as they are, as PyTorch does for a layer that no loss reaches.
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        *,
        bias: bool = True,
        init: Initializer = KaimingNormal("fan_out"),
        bias_init: Initializer = ZEROS,
        trained: bool = True,
    ):
        self.kernel = param((features_in, features_out), init, trained=trained)
        self.bias = param((features_out,), bias_init, trained=trained) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (..., features_in) to (..., features_out)."""
        y = jnp.matmul(x, self.kernel[...].astype(x.dtype))
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)
