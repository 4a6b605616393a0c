"""`sicl-jax export`: a trained encoder for other programs."""

import json
import pathlib

import click

from sicl_jax.cli import options


@click.command(short_help="Write the RGB encoder for PyTorch and others.")
@options.model
@options.checkpoint
@click.option(
    "--format",
    "format_",
    type=click.Choice(["torch", "safetensors", "stablehlo", "onnx"]),
    required=True,
    help="torch: a checkpoint for the authors' code; safetensors: its arrays alone; stablehlo "
    "and onnx: the program with its weights, for batches of any size.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=pathlib.Path),
    help="The file to write.  [default: rgb.SUFFIX in the run's folder]",
)
@options.as_json
def command(workdir, checkpoint, format_, output, as_json):
    """Write a trained RGB encoder, all that recognition needs, for other programs."""
    from sicl_jax import export, inference

    model = inference.load(workdir, checkpoint=checkpoint)
    folder = workdir if workdir.is_dir() else workdir.parent
    output = output or folder / f"rgb{export.FORMATS[format_]}"
    export.write(model, output, format_)
    done = {"output": str(output), "format": format_, "bytes": output.stat().st_size}
    if as_json:
        click.echo(json.dumps({**done, **model.about()}))
    else:
        click.echo("{output}: {format}, {bytes} bytes".format(**done))
