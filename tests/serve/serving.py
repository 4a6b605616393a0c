"""Servers and clients of them, in this process."""

import contextlib
import threading

import pytest

pytest.importorskip("starlette")

import uvicorn
from starlette.testclient import TestClient

from sicl_jax.serve import app, run
from sicl_jax.serve.api import Api
from sicl_jax.serve.audit import AuditLog
from sicl_jax.serve.gallery import Gallery
from sicl_jax.serve.guard import Keys
from sicl_jax.serve.marks import Marks
from sicl_jax.serve.thumbnails import Thumbnails

HEADERS = {"X-Sicl-Jax": "1"}
TOKEN = "a-token-of-some-length"


@contextlib.contextmanager
def create(model, folder, *, tokens=None, is_loopback=True):
    """The application over an index."""
    api = Api(Gallery(folder, model), model, Marks(folder), Thumbnails(folder))
    audit = AuditLog(folder / "audit.jsonl")
    try:
        yield app.create(api, Keys(tokens or {}), audit, is_loopback=is_loopback)
    finally:
        api.close()


def client_of(application, **headers):
    """A client of an application."""
    headers = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
    return TestClient(
        application, "http://localhost", raise_server_exceptions=False, headers=headers
    )


@contextlib.contextmanager
def listening(application):
    """The address of an application that listens at a port."""
    with run.listening("127.0.0.1", 0) as listener:
        server = uvicorn.Server(
            uvicorn.Config(
                application, http="h11", lifespan="off", access_log=False, timeout_keep_alive=60
            )
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()
