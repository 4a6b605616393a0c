"""Starting the server."""

import contextlib
import pathlib
import signal
import socket
from collections.abc import Callable, Iterator, Mapping

from sicl_jax.errors import UsageError, UserError
from sicl_jax.serve.guard import Keys, is_loopback

LEAST_TOKEN = 16
LOCK = ".serve.lock"
AUDIT = "audit.jsonl"


def tokens_of(given: tuple[str, ...]) -> dict[str, str]:
    """Names by token, from `TOKEN` or `NAME=TOKEN`.

    Raises:
        UsageError: One is too short to be safe.
    """
    tokens = {}
    for words in given:
        name, found, token = words.partition("=")
        name, token = (name, token) if found else ("token", words)
        if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable():
            raise UsageError(
                f"--token: needs {LEAST_TOKEN} plain characters or more (after NAME=); such as "
                "what `openssl rand -hex 24` prints"
            )
        tokens[token] = name
    return tokens


def check_host(host: str, tokens: Mapping[str, str]) -> bool:
    """Whether a host is this machine alone.

    Raises:
        UsageError: It is not, and there is no token.
    """
    if is_loopback(host):
        return True
    if not tokens:
        raise UsageError(
            f"--host {host}: others could reach every picture and search for anybody; give "
            "--token (or SICL_JAX_TOKEN), or stay on 127.0.0.1 and use `ssh -L`"
        )
    return False


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that is bound already, so that an address in use is told at once.

    Raises:
        UserError: The address cannot be used.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host.strip("[]"), port))
            listener.listen(2048)  # Who comes before all is ready waits.
            yield listener
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no such address"
        raise UserError(f"--host {host} --port {port}: {reason}; choose another") from error


def serve(
    folder: pathlib.Path,
    *,
    workdir: pathlib.Path | None = None,
    checkpoint: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8420,
    tokens: Mapping[str, str] | None = None,
    audit: str | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Serves an index until it is stopped.

    Args:
        folder: Of the index.
        workdir: Where its model is; where it was if None.
        checkpoint: Of that run.
        host: Address to listen at.
        port: Port to listen at; a free one if 0.
        tokens: Names by token; needed for hosts that are not this machine alone.
        audit: File of the audit log, or `off`; `audit.jsonl` in the index's folder if None.
        say: Told the address and what matters.

    Raises:
        UsageError: Others could come in without a token.
        UserError: There is no such index or model, the address is in use, another server has the
            index, or a file cannot be written.
    """
    try:
        import uvicorn

        from sicl_jax.serve import app
    except ImportError as error:
        raise UserError(
            f"serve: needs the package {error.name}; install sicl-jax[serve]"
        ) from error
    from sicl_jax.data import lock
    from sicl_jax.retrieval import build
    from sicl_jax.retrieval.index import GalleryIndex
    from sicl_jax.serve.api import Api
    from sicl_jax.serve.audit import AuditLog
    from sicl_jax.serve.gallery import Gallery
    from sicl_jax.serve.marks import Marks
    from sicl_jax.serve.thumbnails import Thumbnails

    tokens = dict(tokens or {})
    only_here = check_host(host, tokens)
    model = build.load_model(GalleryIndex.open(folder), folder, workdir, checkpoint)
    with (
        lock.hold(folder, say, flag="--index", name=LOCK),
        listening(host, port) as listener,
    ):
        log = AuditLog(None if audit == "off" else pathlib.Path(audit or folder / AUDIT))
        thumbnails = Thumbnails(folder)
        gallery = Gallery(folder, model, lambda now: thumbnails.forget_others(set(now.ids)))
        api = Api(gallery, model, Marks(folder), thumbnails)
        application = app.create(api, Keys(tokens), log, is_loopback=only_here)
        config = uvicorn.Config(
            application, http="h11", ws="none", lifespan="off", access_log=False,
            log_level="warning", server_header=False, proxy_headers=False,
            limit_concurrency=1000, timeout_keep_alive=20, timeout_graceful_shutdown=5,
        )  # fmt: skip
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{listener.getsockname()[1]}  ({len(gallery.now().paths)} images)")
        if not only_here:
            say(
                "Everybody who has a token sees all pictures and may search for anybody. This is "
                "plain HTTP: put a proxy with TLS before it, or the token can be overheard."
            )
        # Whoever stops the server, the lock is given back: uvicorn passes signals on when it ends.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        say(f"who searches for what is noted in {log.file}" if log.file else "no audit log")
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            pass
        finally:
            api.close()
