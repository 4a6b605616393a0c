"""`sicl-jax extract`: features of a folder of images, as a file."""

import json
import pathlib

import click

from sicl_jax.cli import options


@click.command()
@options.model
@options.checkpoint
@options.images
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=pathlib.Path),
    required=True,
    help="The file to write: .npz or .parquet.",
)
@options.embedding
@options.as_json
@options.quiet
@options.beside
def command(workdir, checkpoint, images, output, stream, flip, as_json, quiet, **choices):
    """Write features of all images below a folder, one unit row each.

    The file holds `features` (N, D) float32, `files` (paths below the folder) and `about` (JSON:
    the model); as Parquet, columns `file` and `feature`, and `sicl_jax` in the schema's metadata.
    """
    import functools

    from sicl_jax import console, inference
    from sicl_jax.data.pictures import list_images
    from sicl_jax.retrieval import feature_files
    from sicl_jax.retrieval.folder import View, embed_folder

    write = feature_files.writer(output)
    names = list_images(images)
    model = inference.load(workdir, checkpoint=checkpoint)
    view = View(stream, flip).of(model)
    embedded = embed_folder(
        model,
        images,
        names=names,
        view=view,
        **choices,
        progress=functools.partial(console.progress, quiet=quiet),
    )
    about = {**model.about(), "stream": view.stream, "flip": view.flip, "folder": str(images)}
    write(embedded, about)
    for line in embedded.left_out:
        click.echo(f"left out: {line}", err=True)
    done = {
        "output": str(output),
        "images": len(embedded.names),
        "dimensions": embedded.features.shape[1],
        "left_out": len(embedded.left_out),
        **about,
    }
    if as_json:
        click.echo(json.dumps(done))
    else:
        click.echo("{output}: {images} features of {dimensions} dimensions".format(**done))
