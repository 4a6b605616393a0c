"""Options that several commands share."""

import functools
import pathlib

import click

FOLDER = click.Path(file_okay=False, path_type=pathlib.Path)


class _Index(click.Path):
    """A folder, or an address of Milvus."""

    name = "index"

    def convert(self, value, param, ctx):
        if isinstance(value, str) and value.startswith("milvus://"):
            return value
        return super().convert(value, param, ctx)


index = click.option(
    "--index",
    "index_dir",
    type=_Index(file_okay=False, path_type=pathlib.Path),
    required=True,
    help="The index: a folder, or milvus://HOST/COLLECTION.",
)

workdir = click.option(
    "--workdir", type=FOLDER, required=True, help="The run's folder: config, logs, checkpoints."
)
checkpoint = click.option(
    "--checkpoint",
    default="best",
    show_default=True,
    metavar="best|latest|STEP",
    help="Which checkpoint of the run.",
)
quiet = click.option("--quiet", is_flag=True, help="No progress bars.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for other programs.")
model = click.option(
    "--workdir",
    type=click.Path(path_type=pathlib.Path),
    required=True,
    help="The run's folder; a file of weights: the authors' .pth, or safetensors; drawn-people.",
)
images = click.option(
    "--images", type=FOLDER, required=True, help="Folder of images, searched as a tree."
)
_PATH = click.Path(path_type=pathlib.Path)


def beside(command):
    """Adds what lies beside images (`--masks` to `--modality`); the command gets one `beside`."""

    @click.option(
        "--masks", type=_PATH, help="Folder of the images' masks: their paths, `.png`; if needed."
    )
    @click.option("--faces", type=_PATH, help="Folder of their faces: the same paths; if needed.")
    @click.option("--restored_faces", type=_PATH, help="Folder of their restored faces; if needed.")
    @click.option(
        "--modality",
        type=click.Choice(["visible", "infrared"]),
        help="Of all images, if it matters.  [default: folders named rgb, ir, visible, infrared]",
    )
    @functools.wraps(command)
    def with_beside(*args, masks, faces, restored_faces, modality, **choices):
        from sicl_jax.retrieval.folder import Beside

        beside = Beside(masks, faces, restored_faces, modality)
        return command(*args, beside=beside, **choices)

    return with_beside


stream = click.option(
    "--stream",
    metavar="NAME",
    help="Features of what: rgb, silhouette or fusion of SiCL, for one.  [default: the method's]",
)
flip = click.option(
    "--flip/--no-flip",
    default=None,
    help="Sum each image's features with its mirror image's.  [default: the config's]",
)
batch_size = click.option("--batch_size", type=click.IntRange(min=1), help="Images in a batch.")
skip_bad = click.option("--skip_bad", is_flag=True, help="Leave out bad files instead of stopping.")


def several(command):
    """Adds the options by which processes find each other; the command gets them as `others`."""

    @click.option(
        "--coordinator",
        metavar="HOST:PORT",
        help="Of several processes: where the first one is reached. Not needed under Slurm, Open "
        "MPI or Kubernetes.",
    )
    @click.option("--num_processes", type=click.IntRange(min=1), help="How many there are.")
    @click.option("--process_id", type=click.IntRange(min=0), help="Which one this is, from 0.")
    @functools.wraps(command)
    def with_several(*args, coordinator, num_processes, process_id, **choices):
        return command(*args, others=(coordinator, num_processes, process_id), **choices)

    return with_several


def embedding(command):
    """Adds how images are looked at, how many at a time, and what becomes of bad files."""
    for option in (skip_bad, batch_size, flip, stream):
        command = option(command)
    return command


def where(command):
    """Adds the options that say which images may be found, which the command gets as `where`."""

    @click.option("--camera", multiple=True, help="Find only images of this camera; repeatable.")
    @click.option("--folder", multiple=True, type=_PATH, help="Only in or below it; repeatable.")
    @click.option("--only", type=click.Choice(["visible", "infrared"]), help="Only such images.")
    @click.option("--since", type=click.DateTime(), help="Only images of this time (UTC) or later.")
    @click.option("--until", type=click.DateTime(), help="Only images before this time (UTC).")
    @functools.wraps(command)
    def with_where(*args, camera, folder, only, since, until, **choices):
        import datetime

        from sicl_jax.retrieval.facts import Where

        def seconds(time):
            return None if time is None else time.replace(tzinfo=datetime.UTC).timestamp()

        found = Where(
            frozenset(camera),
            frozenset(str(path.resolve()) for path in folder),
            frozenset({only} - {None}),
            seconds(since),
            seconds(until),
        )
        return command(*args, where=found, **choices)

    return with_where


def names(words: str | None, flag: str) -> list[str]:
    """The names in a list with commas between; none if it is not given.

    Raises:
        UsageError: One is empty or stands there twice.
    """
    from sicl_jax.errors import UsageError

    found = [] if words is None else [word.strip() for word in words.split(",")]
    if not all(found) or len(set(found)) < len(found):
        raise UsageError(f"{flag} {words}: give names with commas between, each once")
    return found
