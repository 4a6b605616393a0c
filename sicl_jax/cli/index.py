"""`sicl-jax index`: a gallery on disk that can be searched."""

import json
import pathlib

import click

from sicl_jax.cli import options


@click.command()
@click.option(
    "--workdir",
    type=click.Path(path_type=pathlib.Path),
    help="The run's folder, or a file of weights; needed to add images.",
)
@options.checkpoint
@click.option("--images", type=options.FOLDER, help="Folder whose images to add.")
@options.index
@click.option(
    "--remove",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Take out files whose path, or its end, matches, such as 'cam2/*.jpg'; repeatable.",
)
@click.option("--remove_missing", is_flag=True, help="Take out files that are no longer on disk.")
@click.option(
    "--camera",
    metavar="PATTERN",
    help="Where paths say the camera, such as '{camera}/*/*.jpg', laid on their ends.  [default: "
    "a folder cam..., or the c3 of 0002_c3s1_000451.jpg]",
)
@options.embedding
@options.as_json
@options.quiet
@options.beside
@options.several
def command(index_dir, patterns, remove_missing, as_json, others, **choices):
    """Make an index of a folder's images, add a folder to one, or take files out.

    Files that are in the index already, and unchanged, are not embedded again: run it again to
    bring an index up to date. Up to 200,000 images the search is exact, beyond approximate.

    Several processes share the new images among them: start the same command on each machine, with
    --coordinator, --num_processes and --process_id; all have to see the images and the index.
    """
    from contextlib import nullcontext

    import numpy as np

    from sicl_jax import devices, processes
    from sicl_jax.console import counted
    from sicl_jax.data import lock
    from sicl_jax.errors import UsageError
    from sicl_jax.retrieval import build, stores

    removes = bool(patterns) or remove_missing
    if not removes and choices["images"] is None:
        raise UsageError("--images: name the folder to add (or --remove what is to go)")
    if choices["images"] is not None and choices["workdir"] is None:
        raise UsageError("--workdir: is needed to add images")
    processes.join(*others)
    devices.use_own()
    lines, left_out, done = [], (), {"index": str(index_dir)}

    def hold():
        if stores.is_milvus(index_dir):
            return nullcontext()
        return lock.hold(index_dir, lambda _: None, flag="--index")

    def remove() -> np.ndarray:
        changes = build.remove(index_dir, patterns, missing=remove_missing)
        return np.array([changes.removed, changes.kept])

    with processes.held_by_first(hold):
        if removes:
            removed, kept = processes.on_first(remove, like=np.zeros(2, np.int64)).tolist()
            done |= {"removed": removed, "images": kept}
            lines.append(f"{counted(removed, 'image')} removed")
        if choices["images"] is not None:
            changes = _add(index_dir, **choices)
            left_out = changes.left_out
            done |= {"added": changes.added, "images": changes.added + changes.kept}
            lines.append(f"{counted(changes.added, 'image')} added")
        bad = processes.on_each(lambda: np.array(len(left_out)), like=np.array(0))
    for line in left_out:
        click.echo(f"left out: {line}", err=True)
    done["left_out"] = int(bad.sum())
    if not processes.is_first():
        return
    if as_json:
        click.echo(json.dumps(done))
    else:
        click.echo(f"{index_dir}: {', '.join(lines)}; it holds {done['images']}")


def _add(index_dir, *, workdir, checkpoint, images, stream, flip, quiet, **choices):
    import functools

    from sicl_jax import console, inference, processes
    from sicl_jax.data.pictures import list_images
    from sicl_jax.retrieval import build
    from sicl_jax.retrieval.folder import View

    list_images(images)  # An empty folder is told before a model is loaded.
    model = inference.load(workdir, checkpoint=checkpoint)
    return build.add_folder(
        model,
        images,
        index_dir,
        view=View(stream, flip),
        progress=functools.partial(console.progress, quiet=quiet or not processes.is_first()),
        **choices,
    )
