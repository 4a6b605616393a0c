"""`sicl-jax masks`: silhouettes of a folder of images, and a report on them."""

import pathlib

import click

from sicl_jax.errors import UsageError

_FOLDER = click.Path(path_type=pathlib.Path, file_okay=False)
_FILE = click.Path(path_type=pathlib.Path, dir_okay=False)


@click.command("masks")
@click.option("--input", "input_dir", type=_FOLDER, help="Folder of images, searched as a tree.")
@click.option(
    "--output", "output_dir", type=_FOLDER, required=True, help="Folder of the masks, as .png."
)
@click.option(
    "--weights", type=_FILE, help="SCHP checkpoint: the authors' .pth file, or safetensors."
)
@click.option(
    "--dataset",
    type=click.Choice(["lip", "atr", "pascal"]),
    help="Insist on this kind of checkpoint.  [default: as its number of classes says]",
)
@click.option(
    "--keep",
    "--mode",
    "mode",
    type=click.Choice(["parts", "parsing", "silhouette"]),
    default="parts",
    show_default=True,
    help="What is kept of the parser's labels: `parts` (or `parsing`, the same), as palette PNGs "
    "that note whose labels they are, or the `silhouette`, as grey PNGs of 0 and 255.",
)
@click.option(
    "--batch_size", type=int, help="Images a step.  [default: 16 on accelerators, 2 on CPUs]"
)
@click.option(
    "--input_size",
    type=int,
    help="Side of the network's input; smaller is faster and coarser.  [default: the checkpoint's]",
)
@click.option("--threads", type=int, help="Threads that read and write.  [default: one a core]")
@click.option("--check", is_flag=True, help="Make nothing; only report on the masks in --output.")
@click.option(
    "--sheet", type=_FILE, help="Contact sheet of the worst masks.  [default: OUTPUT/worst.pdf]"
)
@click.option("--quiet", is_flag=True, help="Show no progress.")
def command(
    input_dir,
    output_dir,
    weights,
    dataset,
    mode,
    batch_size,
    input_size,
    threads,
    check,
    sheet,
    quiet,
):
    """Makes a mask of each image with the SCHP human parser, under the same relative path.

    An interrupted run goes on where it stopped. With --check nothing is made: it reports on masks
    of any origin, beside their images if --input is given and on paper if --sheet is.
    """
    if check:
        from sicl_jax.masks.quality import check_folder

        report = check_folder(output_dir, threads=threads)
    else:
        for flag, value in (("--input", input_dir), ("--weights", weights)):
            if value is None:
                raise UsageError(f"{flag}: is needed to make masks (without it, only --check)")
        from sicl_jax.masks.predict import write_masks

        made = write_masks(
            input_dir,
            output_dir,
            weights,
            dataset=dataset,
            mode="parsing" if mode == "parts" else mode,
            batch_size=batch_size,
            input_size=input_size,
            threads=threads,
            quiet=quiet,
        )
        click.echo(f"{made.written} masks written, {made.skipped} were there ({made.dataset})")
        report, sheet = made.quality, sheet or output_dir / "worst.pdf"
    for line in report.lines():
        click.echo(line)
    if sheet is not None and report.worst:
        from sicl_jax.masks.sheet import write_contact_sheet

        write_contact_sheet(report, sheet, masks_dir=output_dir, images_dir=input_dir)
        click.echo(f"the worst: {sheet}")
