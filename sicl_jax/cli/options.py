"""Options that several commands share."""

import pathlib

import click

FOLDER = click.Path(file_okay=False, path_type=pathlib.Path)

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
    help="The run's folder, or a file of weights: the authors' .pth, or safetensors.",
)
images = click.option(
    "--images", type=FOLDER, required=True, help="Folder of images, searched as a tree."
)
masks = click.option(
    "--masks", type=FOLDER, help="Folder of their masks: the images' paths, `.png`."
)
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
