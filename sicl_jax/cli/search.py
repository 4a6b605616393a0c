"""`sicl-jax search`: the images of an index that are most like a query."""

import json
import pathlib

import click

from sicl_jax.cli import options

_PATH = click.Path(path_type=pathlib.Path)


@click.command()
@options.index
@click.option("--query", type=_PATH, required=True, help="An image, or a folder of images.")
@click.option(
    "--top", type=click.IntRange(1, 1000), default=10, show_default=True, help="Images to find."
)
@click.option(
    "--page",
    type=click.Path(dir_okay=False, path_type=pathlib.Path),
    help="Write the ranked galleries to this HTML file, and to further ones beside it if many.",
)
@click.option(
    "--by_folder",
    is_flag=True,
    help="On the page, an image's folder names its person: mark true and false matches.",
)
@click.option("--workdir", type=_PATH, help="Where the index's model is.  [default: where it was]")
@click.option(
    "--checkpoint", metavar="best|latest|STEP", help="Of that run.  [default: the index's step]"
)
@options.batch_size
@options.as_json
@options.quiet
@options.where
@options.beside
def command(index_dir, query, page, by_folder, as_json, **choices):
    """Find the images of an index that are most like a query.

    A query that is in the index itself is not among its own results. The model is the one that
    the index was made with; any other is refused.
    """
    from sicl_jax.retrieval import stores

    index = stores.open_index(index_dir)
    found = _search(index, index_dir, query, **choices)
    if page is not None:
        from sicl_jax.data.files import write
        from sicl_jax.report.pages import search_pages

        about = f"{len(index)} images in {index_dir}; model {index.model['workdir']}"
        for path, html in search_pages(found, about, page, by_folder=by_folder):
            write(path, html.encode("utf-8", "replace"), f"--page {path}")
    if as_json:
        results = [
            {
                "query": f.query,
                "hits": [{"file": h.path, "similarity": h.similarity} for h in f.hits],
            }
            for f in found
        ]
        click.echo(
            json.dumps({"index": str(index_dir), "exact": index.is_exact, "results": results})
        )
    else:
        _print(found)
    if page is not None:
        click.echo(f"the page: {page}", err=True)


def _search(index, index_dir, query, *, top, where, workdir, checkpoint, beside, batch_size, quiet):
    import functools

    from sicl_jax import console
    from sicl_jax.retrieval import build, searching

    searching.queries(query)  # A missing query is told before a model is loaded.
    model = build.load_model(index, index_dir, workdir, checkpoint)
    return searching.search(
        index,
        model,
        query,
        beside=beside,
        where=where,
        top=top,
        batch_size=batch_size,
        progress=functools.partial(console.progress, quiet=quiet),
    )


def _print(found) -> None:
    """Plain lines, so that long paths stay whole and can be piped."""
    for result in found:
        click.echo(result.query)
        click.echo("rank  similarity  file")
        for rank, hit in enumerate(result.hits, start=1):
            click.echo(f"{rank:4}  {hit.similarity:10.3f}  {hit.path}")
