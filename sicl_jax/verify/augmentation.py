"""`augmentation.npz`: the chain of images by the draws of the published code.

That draws from Python's generator: for erasing a coin, area and ratio in turn until a rectangle
fits, its top and its left.
"""

import random
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from sicl_jax.data.augment import (
    MEAN,
    AugmentConfig,
    Draws,
    erase,
    normalize,
    rectangles,
    transform_bytes,
)
from sicl_jax.data.pixels import Form
from sicl_jax.verify.checks import Check
from sicl_jax.verify.files import Golden

_TOLERANCE = 1e-6


def check(
    golden: Golden, *, resize: str = "bicubic", erase_fill: tuple[float, float, float] = MEAN
) -> Iterator[Check]:
    """Recomputes the file: rectangles, images as they are tested, and as they are trained on.

    Args:
        golden: The file.
        resize: PIL's filter.
        erase_fill: What erased pixels become.
    """
    size, pad = tuple(golden["size"].tolist()), int(golden["pad"])
    config = AugmentConfig(pad=pad, erase_fill=erase_fill)
    shape = tuple(golden["erase_size"].tolist())
    draws = _draws(golden["erase_seeds"].tolist(), shape, config)
    yield golden.check("erase_boxes", _boxes(draws, shape, config), 0.0)

    draws = _draws(golden["chain_erase_seeds"].tolist(), size, config)._replace(
        flip=np.where(golden["flips"] > 0, 0.0, 1.0),
        crop=(golden["crops"] + 0.5) / (2 * pad + 1),
    )
    yield golden.check("chain_boxes", _boxes(draws, size, config), 0.0)

    @jax.jit
    def chain(draws, raw, boxes):
        return erase(normalize(transform_bytes(draws, raw, config)), boxes, erase_fill)

    form = Form(size, resize)
    raw = jnp.asarray(np.stack([form.fit(Image.fromarray(picture)) for picture in golden["raw"]]))
    found = {"test_inputs": jax.jit(normalize)(raw)}
    found["train_inputs"] = chain(draws, raw, golden["chain_boxes"])
    for name, images in found.items():
        yield golden.check(name, images.transpose(0, 3, 1, 2), _TOLERANCE)


def _boxes(draws: Draws, size: tuple[int, int], config: AugmentConfig) -> np.ndarray:
    with jax.enable_x64(True):  # As the published code computes: sides are rounded to pixels.
        return np.asarray(jax.jit(lambda draws: rectangles(draws, size, config))(draws))


def _draws(seeds: Sequence[int], size: tuple[int, int], config: AugmentConfig) -> Draws:
    """What the published erasing draws, one seed an image; nothing else happens to it."""
    height, width = size
    coins, place = np.zeros(len(seeds)), np.zeros((len(seeds), 2))
    tries = np.zeros((2, len(seeds), config.erase_tries))
    low, high = np.array([config.erase_area, config.erase_aspect]).T
    for row, seed in enumerate(seeds):
        rng = random.Random(seed)  # noqa: S311 - the published generator.
        coins[row] = rng.random()
        for number in range(config.erase_tries if coins[row] < config.erase else 0):
            tries[:, row, number] = rng.random(), rng.random()
            area, ratio = low + tries[:, row, number] * (high - low)
            tall = round(np.sqrt(area * height * width * ratio))
            wide = round(np.sqrt(area * height * width / ratio))
            if tall < height and wide < width:
                rooms = height - tall, width - wide
                place[row] = [(rng.randint(0, room) + 0.5) / (room + 1) for room in rooms]
                break
    never, nowhere = np.ones(len(seeds)), np.zeros((len(seeds), 2))
    return Draws(never, never, never, nowhere, coins, place, *tries)
