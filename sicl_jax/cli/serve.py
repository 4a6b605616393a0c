"""`sicl-jax serve`: search an index in the browser."""

import pathlib

import click

from sicl_jax.cli import options

_PATH = click.Path(path_type=pathlib.Path)


@click.command()
@options.index
@click.option("--workdir", type=_PATH, help="Where the index's model is.  [default: where it was]")
@click.option(
    "--checkpoint", metavar="best|latest|STEP", help="Of that run.  [default: the index's step]"
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address; any but this needs --token."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8420, show_default=True, help="0: a free one."
)
@click.option(
    "--token",
    "tokens",
    multiple=True,
    envvar="SICL_JAX_TOKEN",
    metavar="[NAME=]TOKEN",
    help="Lets in who has it, by this name in the audit log; repeatable. Better in the variable "
    "SICL_JAX_TOKEN, which other users of the machine cannot see.",
)
@click.option(
    "--audit",
    metavar="FILE|off",
    help="Who searched for what and when, as JSON lines.  [default: audit.jsonl in the index]",
)
def command(index_dir, tokens, **choices):
    """Search an index in the browser, mark who is who, and export it.

    The index has to be in a folder. The server answers to this machine alone unless there is a
    --token. It sees images that
    `sicl-jax index` adds while it runs. Marks are kept in the index's folder, in people.json.
    """
    from sicl_jax.errors import UsageError
    from sicl_jax.retrieval import stores
    from sicl_jax.serve import run

    if stores.is_milvus(index_dir):
        raise UsageError(
            f"--index {index_dir}: a server needs an index in a folder, where it keeps marks too; "
            "use `sicl-jax search` and `cluster` with Milvus"
        )
    run.serve(
        index_dir,
        tokens=run.tokens_of(tokens),
        say=lambda words: click.echo(words, err=True),
        **choices,
    )
