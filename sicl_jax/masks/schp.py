"""A-CE2P, the human parser of Self-Correction for Human Parsing (Li, Xu, Wei, Yang; TPAMI 2020).

Inference only. A ResNet-101 with a deep stem feeds three heads: pyramid pooling and the decoder
give the parsing, the edge head the borders between parts, and the fusion head joins both into the
logits that are used. All resizing is bilinear with corners aligned. Arrays are NHWC.

Two products of the published network are computed in another order, with the same result:
- A 1 x 1 convolution of concatenated maps of several sizes is applied to each map at its own size,
  then resized and summed (`linear_of_joined`); resizing acts on each channel alone.
- The 3 x 3 convolution of the resized pyramid levels is computed on their few cells
  (`conv3x3_of_resized`), which saves a tenth of the network's arithmetic.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from sicl_jax.masks.resize import (
    adaptive_average_pool,
    align_corners_matrix,
    resize_align_corners,
)

STAGE_SIZES = (3, 4, 23, 3)  # ResNet-101.
POOL_SIZES = (1, 2, 3, 6)
NORM_EPSILON = 1e-5
LEAKY_SLOPE = 0.01


class ParserOutput(NamedTuple):
    """Logits at a quarter of the input's size (rounded up), float32.

    Attributes:
        fusion: (B, h, w, classes); the logits that are used.
        parsing: (B, h, w, classes); the decoder's own.
        edge: (B, h, w, 2); part border or not.
    """

    fusion: Float[Array, "b h w k"]
    parsing: Float[Array, "b h w k"]
    edge: Float[Array, "b h w 2"]


class AbsoluteNorm(nnx.Module):
    """Batch norm of in-place ABN at inference: its scale is `|weight| + 1e-5`.

    In the backbone it has no activation of its own; in the heads (`leaky`) a leaky ReLU follows.
    """

    def __init__(self, features: int, *, leaky: bool = False):
        self.leaky = leaky
        self.weight = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.variance = nnx.BatchStat(jnp.ones(features))

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """Normalises in float32 and answers in the type of `x`."""
        scale = (jnp.abs(self.weight[...]) + NORM_EPSILON) * jax.lax.rsqrt(
            self.variance[...] + NORM_EPSILON
        )
        y = x.astype(jnp.float32) * scale + (self.bias[...] - self.mean[...] * scale)
        if self.leaky:
            y = jax.nn.leaky_relu(y, LEAKY_SLOPE)
        return y.astype(x.dtype)


def _linear(inputs, outputs, *, dtype, rngs, bias=False):
    """A 1 x 1 convolution, as a matrix product: three times as fast as XLA's conv on a CPU."""
    return nnx.Linear(inputs, outputs, use_bias=bias, dtype=dtype, param_dtype=dtype, rngs=rngs)


def _conv3x3(inputs, outputs, *, dtype, rngs, stride=1, dilation=1, bias=False):
    return nnx.Conv(
        inputs,
        outputs,
        (3, 3),
        strides=stride,
        kernel_dilation=dilation,
        padding=((dilation, dilation), (dilation, dilation)),
        use_bias=bias,
        dtype=dtype,
        param_dtype=dtype,
        rngs=rngs,
    )


class NormedLinear(nnx.Module):
    """A 1 x 1 convolution without bias, then a leaky norm: the brick of the heads."""

    def __init__(self, inputs: int, outputs: int, *, dtype, rngs: nnx.Rngs):
        self.linear = _linear(inputs, outputs, dtype=dtype, rngs=rngs)
        self.norm = AbsoluteNorm(outputs, leaky=True)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """Applies both."""
        return self.norm(self.linear(x))

    def of_joined(
        self, parts: Sequence[Float[Array, "b _h _w _c"]], size: tuple[int, int]
    ) -> Float[Array, "b h w d"]:
        """Applies both to the channels of all `parts`, each resized to `size`."""
        return self.norm(linear_of_joined(parts, self.linear.kernel[...], size))


class Bottleneck(nnx.Module):
    """A residual bottleneck; its stride sits on the 3 x 3 convolution."""

    def __init__(self, inputs, width, *, stride, dilation, project, dtype, rngs):
        make = {"dtype": dtype, "rngs": rngs}
        self.stride = stride
        self.conv1 = _linear(inputs, width, **make)
        self.norm1 = AbsoluteNorm(width)
        self.conv2 = _conv3x3(width, width, stride=stride, dilation=dilation, **make)
        self.norm2 = AbsoluteNorm(width)
        self.conv3 = _linear(width, 4 * width, **make)
        self.norm3 = AbsoluteNorm(4 * width)
        self.shortcut = _linear(inputs, 4 * width, **make) if project else None
        self.shortcut_norm = AbsoluteNorm(4 * width) if project else None

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """One block."""
        y = jax.nn.relu(self.norm1(self.conv1(x)))
        y = jax.nn.relu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        if self.shortcut is not None:
            x = self.shortcut_norm(self.shortcut(x[:, :: self.stride, :: self.stride]))
        return jax.nn.relu(y + x)


class Backbone(nnx.Module):
    """ResNet with a deep stem; the last stage keeps the third's size and is dilated instead."""

    def __init__(self, *, dtype, rngs: nnx.Rngs):
        make = {"dtype": dtype, "rngs": rngs}
        self.stem = nnx.List(
            [
                _conv3x3(3, 64, stride=2, **make),
                _conv3x3(64, 64, **make),
                _conv3x3(64, 128, **make),
            ]
        )
        self.stem_norms = nnx.List([AbsoluteNorm(64), AbsoluteNorm(64), AbsoluteNorm(128)])
        self.stages = nnx.List([])
        inputs = 128
        for width, count, stride, dilation in zip(
            (64, 128, 256, 512), STAGE_SIZES, (1, 2, 2, 1), (1, 1, 1, 2), strict=True
        ):
            blocks = nnx.List([])
            for i in range(count):
                first = i == 0
                blocks.append(
                    Bottleneck(
                        inputs,
                        width,
                        stride=stride if first else 1,
                        dilation=dilation,
                        project=first,
                        **make,
                    )
                )
                inputs = 4 * width
            self.stages.append(blocks)

    def __call__(self, x: Float[Array, "b h w 3"]) -> list[Float[Array, "b _h _w _c"]]:
        """The outputs of the four stages, at 1/4, 1/8, 1/16 and 1/16 of the input's size."""
        for conv, norm in zip(self.stem, self.stem_norms, strict=True):
            x = jax.nn.relu(norm(conv(x)))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        outputs = []
        for blocks in self.stages:
            for block in blocks:
                x = block(x)
            outputs.append(x)
        return outputs


class PyramidPooling(nnx.Module):
    """The context head: what the whole picture holds, brought to every place of stage 4."""

    def __init__(self, inputs: int, outputs: int, *, dtype, rngs: nnx.Rngs):
        make = {"dtype": dtype, "rngs": rngs}
        self.levels = nnx.List([NormedLinear(inputs, outputs, **make) for _ in POOL_SIZES])
        self.bottleneck = _conv3x3(len(POOL_SIZES) * outputs + inputs, outputs, **make)
        self.norm = AbsoluteNorm(outputs, leaky=True)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """The bottleneck of the concatenated levels and `x`, in that order."""
        levels = [
            level(adaptive_average_pool(x, bins))
            for level, bins in zip(self.levels, POOL_SIZES, strict=True)
        ]
        channels = [level.shape[-1] for level in levels]
        *kernels, kernel = jnp.split(self.bottleneck.kernel[...], np.cumsum(channels), axis=2)
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        for level, level_kernel in zip(levels, kernels, strict=True):
            y += conv3x3_of_resized(level, level_kernel, x.shape[1:3])
        return self.norm(y)


class Decoder(nnx.Module):
    """Joins the context with stage 1's detail: features and parsing logits."""

    def __init__(self, num_classes: int, *, dtype, rngs: nnx.Rngs):
        make = {"dtype": dtype, "rngs": rngs}
        self.context = NormedLinear(512, 256, **make)
        self.detail = NormedLinear(256, 48, **make)
        self.mix1 = NormedLinear(304, 256, **make)
        self.mix2 = NormedLinear(256, 256, **make)
        self.classify = _linear(256, num_classes, bias=True, **make)

    def __call__(self, context, stage1):
        """(B, h, w, 256) features and (B, h, w, classes) logits at stage 1's size."""
        parts = (self.context(context), self.detail(stage1))
        features = self.mix2(self.mix1.of_joined(parts, stage1.shape[1:3]))
        return features, self.classify(features)


class EdgeHead(nnx.Module):
    """Finds part borders in stages 1, 2 and 3: features of each and edge logits."""

    def __init__(self, *, dtype, rngs: nnx.Rngs):
        make = {"dtype": dtype, "rngs": rngs}
        self.levels = nnx.List([NormedLinear(inputs, 256, **make) for inputs in (256, 512, 1024)])
        self.edge = _conv3x3(256, 2, bias=True, **make)
        self.join = _linear(6, 2, bias=True, **make)

    def __call__(self, stages):
        """Three (B, _, _, 256) features, each at its stage's size, and (B, h, w, 2) logits."""
        features = [level(stage) for level, stage in zip(self.levels, stages, strict=True)]
        size = stages[0].shape[1:3]
        edges = [resize_align_corners(self.edge(feature), size) for feature in features]
        return features, self.join(jnp.concatenate(edges, axis=-1))


class Parser(nnx.Module):
    """The whole network, inference only.

    Args:
        num_classes: Classes, background among them (LIP 20, ATR 18, Pascal-Person-Part 7).
        dtype: Type of the convolutions' weights and results; norms and logits are float32.
        rngs: Draws the initial weights.
    """

    def __init__(self, num_classes: int, *, dtype: jnp.dtype = jnp.float32, rngs: nnx.Rngs):
        make = {"dtype": dtype, "rngs": rngs}
        self.dtype = dtype
        self.num_classes = num_classes
        self.backbone = Backbone(**make)
        self.context = PyramidPooling(2048, 512, **make)
        self.decoder = Decoder(num_classes, **make)
        self.edge = EdgeHead(**make)
        self.fusion = NormedLinear(1024, 256, **make)
        self.classify = _linear(256, num_classes, bias=True, **make)

    def __call__(self, images: Float[Array, "b h w 3"]) -> ParserOutput:
        """Parses images as `extractor.normalize` makes them (blue, green, red)."""
        stage1, stage2, stage3, stage4 = self.backbone(images.astype(self.dtype))
        features, parsing = self.decoder(self.context(stage4), stage1)
        edge_features, edge = self.edge((stage1, stage2, stage3))
        joined = self.fusion.of_joined((features, *edge_features), stage1.shape[1:3])
        outputs = (self.classify(joined), parsing, edge)
        return ParserOutput(*(output.astype(jnp.float32) for output in outputs))


def linear_of_joined(
    parts: Sequence[Float[Array, "b _h _w _c"]],
    kernel: Float[Array, "c d"],
    size: tuple[int, int],
) -> Float[Array, "b h w d"]:
    """Computes `concatenate([resize(part, size) for part in parts]) @ kernel` cheaply."""
    cuts = np.cumsum([part.shape[-1] for part in parts])[:-1]
    kernels = jnp.split(kernel, cuts, axis=0)
    return sum(
        resize_align_corners(part @ rows, size) for part, rows in zip(parts, kernels, strict=True)
    )


def conv3x3_of_resized(
    x: Float[Array, "b k l c"], kernel: Float[Array, "3 3 c d"], size: tuple[int, int]
) -> Float[Array, "b h w d"]:
    """Convolves (3 x 3, zero-padded) `x` resized to `size`, computing on `x`'s own cells.

    Both are linear: tap (y, x) of the kernel sees the resized map shifted by one, that is, the
    shifted resizing matrix applied to the cells' product with the tap.
    """
    shifted = []
    for new_size, cells in zip(size, x.shape[1:3], strict=True):
        padded = np.pad(align_corners_matrix(new_size, cells), ((1, 1), (0, 0)))
        taps = np.stack([padded[tap : tap + new_size] for tap in range(3)])
        shifted.append(jnp.asarray(taps, x.dtype))  # (3, new_size, cells)
    rows, columns = shifted
    precision = jax.lax.Precision.HIGHEST
    products = jnp.einsum("bijc,yxcd->bijyxd", x, kernel)
    products = jnp.einsum("bijyxd,yhi->bhjxd", products, rows, precision=precision)
    return jnp.einsum("bhjxd,xwj->bhwd", products, columns, precision=precision)
