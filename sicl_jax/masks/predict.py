"""Makes the masks of a folder of images with the SCHP parser."""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from sicl_jax import console, devices
from sicl_jax.data import files
from sicl_jax.errors import UsageError, UserError
from sicl_jax.masks import extractor, quality, walk
from sicl_jax.masks.params import load_parser
from sicl_jax.masks.schp import Parser
from tfds_builders.reid.features import encode_png
from tfds_builders.reid.parts import encode_parts

SETTINGS_FILE = "masks.json"
MODES = ("parsing", "silhouette")


@dataclasses.dataclass(frozen=True)
class MaskReport:
    """What `write_masks` did.

    Attributes:
        written: Masks written now.
        skipped: Masks that were there already.
        dataset: What the parser was trained on: 'lip', 'atr' or 'pascal'.
        quality: Of all masks of the images, old and new.
    """

    written: int
    skipped: int
    dataset: str
    quality: quality.QualityReport


def write_masks(
    input_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    weights: str | os.PathLike[str],
    *,
    dataset: str | None = None,
    mode: str = "parsing",
    names: Iterable[str] | None = None,
    batch_size: int | None = None,
    input_size: int | None = None,
    threads: int | None = None,
    dtype: str = "auto",
    quiet: bool = False,
) -> MaskReport:
    """Writes a mask PNG of each image of a tree, under the same relative path.

    Masks that are there are left alone, so an interrupted run goes on where it stopped; a mask
    appears whole or not at all. `output_dir/masks.json` remembers what made them, and the folder
    takes no masks of another make.

    Args:
        input_dir: Tree of images; hidden files are passed over.
        output_dir: Made if need be; it may lie in `input_dir` and is not searched then.
        weights: SCHP checkpoint, `.pth` or safetensors.
        dataset: Insist on a 'lip', 'atr' or 'pascal' checkpoint; None takes any.
        mode: 'parsing' (palette PNGs of parts) or 'silhouette' (grey, 0 and 255).
        names: Relative paths of the images to do; None: all of the tree.
        batch_size: Images a step; None: 16 on accelerators, 2 on CPUs.
        input_size: Side of the network's input in pixels; None: the checkpoint's own. Smaller is
            faster and coarser.
        threads: Threads that decode and encode; None: one a core, two at least.
        dtype: 'float32', 'bfloat16', or 'auto': bfloat16 on accelerators.
        quiet: Show no progress.

    Returns:
        Counts, and the quality of the masks.

    Raises:
        UserError: Unusable folders or weights; or, once all others are done, images that cannot be
            read.
        UsageError: A bad `mode`, `dataset`, `batch_size`, `input_size` or `threads`.
    """
    _check(mode=mode, batch_size=batch_size, input_size=input_size, threads=threads)
    input_dir, output_dir, weights = Path(input_dir), Path(output_dir), Path(weights)
    tasks = walk.list_tasks(input_dir, output_dir, names)
    todo = [task for task in tasks if not task.mask.exists()]
    parser, kind = load_parser(weights, dataset=dataset, dtype=devices.compute_dtype(dtype))
    settings = {
        "mode": mode,
        "dataset": kind.dataset,
        "input_size": input_size or kind.input_size,
        "weights_sha256": _sha256(weights),
    }
    _claim(output_dir, settings, is_empty=len(todo) == len(tasks))
    threads = threads or quality.default_threads()
    with console.progress(len(todo), "masks", quiet=quiet) as bar:
        failures = walk.run_tasks(
            todo,
            SchpSegment(parser, settings["input_size"]),
            encode=functools.partial(encode_parts, kind=kind.dataset)
            if mode == "parsing"
            else silhouette_png,
            batch_size=batch_size or default_batch_size(),
            threads=threads,
            on_done=bar.advance,
        )
    if failures:
        raise UserError(
            f"{len(failures)} of {len(tasks)} images cannot be read, the first {failures[0]}; "
            "replace or remove them and run again (all other masks are done)"
        )
    report = quality.check_masks([task.mask for task in tasks], root=output_dir, threads=threads)
    return MaskReport(len(todo), len(tasks) - len(todo), kind.dataset, report)


def default_batch_size() -> int:
    """Returns a number of images a step that fills an accelerator; a CPU is full with two."""
    return 2 if jax.default_backend() == "cpu" else 16


class SchpSegment:
    """A parser as one compiled program for one batch size, on all devices.

    Args:
        parser: On all devices, as `params.load_parser` makes it.
        input_size: Side of the network's input, in pixels.
    """

    def __init__(self, parser: Parser, input_size: int):
        self.input_size = input_size
        graph, self._state = nnx.split(parser)

        @jax.jit
        def parse(state, inputs):
            return nnx.merge(graph, state)(extractor.normalize(inputs)).fusion

        self._parse = parse

    def __call__(self, inputs: UInt8[np.ndarray, "b s s 3"]) -> Float[Array, "b n n k"]:
        """Starts parsing a batch; returns the logits that are used."""
        return self.parse_resident(devices.put_rows(inputs))

    def parse_resident(self, inputs: UInt8[Array, "b s s 3"]) -> Float[Array, "b n n k"]:
        """Does the same for inputs that lie on the devices."""
        return self._parse(self._state, inputs)


def silhouette_png(classes: UInt8[np.ndarray, "h w"]) -> bytes:
    """Encodes classes as a grey PNG, 255 where they are not background."""
    return encode_png(np.where(classes != 0, np.uint8(255), np.uint8(0)))


def _check(*, mode, batch_size, input_size, threads) -> None:
    if mode not in MODES:
        raise UsageError(f"--mode {mode}: is not one of {', '.join(MODES)}")
    for name, value, least in (
        ("batch_size", batch_size, 1),
        ("input_size", input_size, 32),
        ("threads", threads, 1),
    ):
        if value is not None and value < least:
            raise UsageError(f"--{name} {value}: must be {least} or more")


def _claim(output_dir: Path, settings: dict, *, is_empty: bool) -> None:
    """Notes what makes the masks of a folder, or makes sure that it is what made those there."""
    path = output_dir / SETTINGS_FILE
    if not is_empty:
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            found = None
        if found == settings:
            return
        if not isinstance(found, dict):
            found = {}
        changed = [name for name, value in settings.items() if found.get(name) != value]
        raise UserError(
            f"{output_dir}: holds masks made otherwise ({', '.join(changed)} differ by "
            f"{SETTINGS_FILE}); choose another folder or remove it"
        )
    files.write(path, (json.dumps(settings, indent=2) + "\n").encode())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
