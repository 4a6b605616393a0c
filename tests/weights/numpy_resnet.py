"""A ResNet forward pass in NumPy from torchvision's names; shares nothing with the package."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def conv(x, weight, stride):
    """Convolves (B, C, H, W) with OIHW weights, padded by half the kernel on each side."""
    pad = weight.shape[-1] // 2
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = sliding_window_view(x, weight.shape[2:], (2, 3))[:, :, ::stride, ::stride]
    return np.einsum("bchwij,ocij->bohw", windows, weight, optimize=True)


def norm(x, w, name, epsilon=1e-5):
    mean, var, scale, shift = (
        w[f"{name}.{part}"][:, None, None]
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / np.sqrt(var + epsilon) * scale + shift


def relu(x):
    return np.maximum(x, 0)


def max_pool(x):
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    return sliding_window_view(x, (3, 3), (2, 3))[:, :, ::2, ::2].max((-2, -1))


def block(x, w, name, stride):
    bottleneck = f"{name}.conv3.weight" in w
    strides = (1, stride, 1) if bottleneck else (stride, 1)
    y = x
    for i, s in enumerate(strides, 1):
        y = norm(conv(y, w[f"{name}.conv{i}.weight"], s), w, f"{name}.bn{i}")
        y = relu(y) if i < len(strides) else y
    if f"{name}.downsample.0.weight" in w:
        x = norm(conv(x, w[f"{name}.downsample.0.weight"], stride), w, f"{name}.downsample.1")
    return relu(x + y)


def features(images, w, *, last_stride):
    """Pooled features (B, D) of images (B, 3, H, W), computed in float64."""
    w = {name: np.asarray(array, np.float64) for name, array in w.items()}
    x = max_pool(relu(norm(conv(images.astype(np.float64), w["conv1.weight"], 2), w, "bn1")))
    for stage in (1, 2, 3, 4):
        index = 0
        while f"layer{stage}.{index}.conv1.weight" in w:
            first = (1, 2, 2, last_stride)[stage - 1]
            x = block(x, w, f"layer{stage}.{index}", first if index == 0 else 1)
            index += 1
    return x.mean((2, 3))


def shapes(kind, sizes):
    """Names and shapes of torchvision's ResNets, spelled out from their definition."""
    expansion = {"basic": 1, "bottleneck": 4}[kind]
    result = {"conv1.weight": (64, 3, 7, 7)} | norm_shapes("bn1", 64)
    inputs = 64
    for stage, size in enumerate(sizes):
        width = 64 * 2**stage
        for index in range(size):
            name = f"layer{stage + 1}.{index}"
            kernels = {
                "basic": [(width, inputs, 3, 3), (width, width, 3, 3)],
                "bottleneck": [
                    (width, inputs, 1, 1),
                    (width, width, 3, 3),
                    (4 * width, width, 1, 1),
                ],
            }[kind]
            for i, kernel in enumerate(kernels, 1):
                result[f"{name}.conv{i}.weight"] = kernel
                result |= norm_shapes(f"{name}.bn{i}", kernel[0])
            outputs = width * expansion
            if index == 0 and (stage > 0 or inputs != outputs):
                result[f"{name}.downsample.0.weight"] = (outputs, inputs, 1, 1)
                result |= norm_shapes(f"{name}.downsample.1", outputs)
            inputs = outputs
    return result | {"fc.weight": (1000, inputs), "fc.bias": (1000,)}


def norm_shapes(name, size):
    return {
        **{f"{name}.{part}": (size,) for part in ("weight", "bias", "running_mean", "running_var")},
        f"{name}.num_batches_tracked": (),
    }


def random_weights(kind, sizes, seed=0):
    """Weights whose activations stay of order one, with lively statistics."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes(kind, sizes).items():
        if name.endswith("num_batches_tracked"):
            array = np.array(7, np.int64)
        elif len(shape) == 4:
            array = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        elif name.endswith("running_var"):
            array = rng.uniform(0.5, 1.5, shape)
        elif name.endswith("weight") and len(shape) == 1:
            array = rng.uniform(0.3, 0.8, shape)
        else:
            array = rng.normal(0, 0.1, shape)
        weights[name] = array.astype(array.dtype if array.dtype == np.int64 else np.float32)
    return weights
