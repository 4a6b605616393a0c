"""Requests that mean no good: all refused in one line, none of them reaches a file."""

import asyncio
import errno
import io
import json
import os
import shutil
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from serving import TOKEN, client_of, create

from sicl_jax.errors import UsageError
from sicl_jax.retrieval.index import GalleryIndex
from sicl_jax.serve import app, questions, run
from sicl_jax.serve.gallery import image_id
from sicl_jax.serve.marks import Marks


def refused(answer, status, words=""):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert words in error and "\n" not in error and "Traceback" not in error
    for name in ("content-security-policy", "x-content-type-options", "referrer-policy"):
        assert name in answer.headers


def png_of(width, height):
    """A PNG whose header says so; its pixels are a few bytes of zeros."""

    def chunk(kind, data):
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    pixels = zlib.compress(bytes(100_000), 9)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_uploads(client, crops):
    def send(data, **headers):
        return client.post("/api/embed", content=data, headers=headers)

    refused(send(png_of(60_000, 60_000)), 400, "too many")
    refused(send(png_of(3, 3)), 400, "too few")
    refused(send(png_of(500, 500)), 400, "cannot be decoded")
    refused(send(b"<html><script>alert(1)</script></html>"), 400, "is not a JPEG")
    refused(send(b""), 400, "empty")
    whole = next(crops.rglob("*.png")).read_bytes()
    refused(send(whole[: len(whole) // 2]), 400, "cannot be decoded")
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    refused(send(svg), 400, "is not a JPEG")
    gif = io.BytesIO()
    Image.new("P", (5000, 4000)).save(gif, "GIF")
    refused(send(gif.getvalue()), 400, "too many")


def test_bodies_are_bounded_before_they_are_read(client, serve):
    def send(data, path="search", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.post(f"/api/{path}", content=data, headers=headers)

    refused(send(b"x", "embed", content_length=str(2**31)), 413, "KiB at most")
    refused(send(b"x", "embed", content_length="-1"), 413, "KiB at most")
    json_type = {"content_type": "application/json"}
    refused(send(bytes(app._MOST_JSON + 1), **json_type), 413)
    refused(send(b"[" * 200_000, **json_type), 400, "no JSON")
    refused(send(b"[1, 2]", **json_type), 400, "JSON object")
    refused(send(b"{}", content_type="text/plain"), 415)
    read, sent = [], []

    async def receive():  # Two gigabytes, with no word of how many.
        read.append(1 << 20)
        return {"type": "http.request", "body": bytes(1 << 20), "more_body": len(read) < 2048}

    async def answer(message):
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"x-sicl-jax", b"1")]
    scope = {
        "type": "http", "method": "POST", "path": "/api/embed", "raw_path": b"/api/embed",
        "query_string": b"", "headers": headers, "client": ("127.0.0.1", 1), "root_path": "",
        "server": ("localhost", 80), "scheme": "http", "http_version": "1.1",
    }  # fmt: skip
    asyncio.run(serve()(scope, receive, answer))
    assert sent[0]["status"] == 413 and sum(read) == app.MOST_UPLOAD + (1 << 20)


@pytest.mark.parametrize(
    "path",
    [
        "/api/pictures/small/../../index.json", "/api/pictures/small/..%2f..%2findex.json",
        "/api/pictures/small/%2fetc%2fpasswd", "/api/pictures/..%2f/000000000000000000000000",
        "/page.js/../api.py", "/../etc/passwd", "/people.json", "/audit.jsonl", "//etc/passwd",
        "/api/pictures/small/000000000000000000000000", "/api/pictures/huge/0", "/api/people/0",
        "/api/people/x", "/api/people/99999999999999999999999", "/%00", "/api/export/people.json",
    ],
)  # fmt: skip
def test_no_path_reaches_a_file(client, path):
    answer = client.get(path)
    refused(answer, 404)


def test_foreign_pages_and_hosts(client):
    body = {"json": {"images": [], "mark": None}}
    for headers, status in (
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"x-sicl-jax": ""}, 403),
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1.evil.example:80"}, 421),
        ({"host": ""}, 421),
    ):
        refused(client.post("/api/mark", **body, headers=headers), status)
    refused(client.get("/api/people/1", headers={"sec-fetch-site": "same-site"}), 403)
    refused(client.delete("/api/people/1"), 405)
    same = {"origin": "http://localhost", "sec-fetch-site": "same-origin"}
    assert client.post("/api/people", json={}, headers=same).status_code == 200
    for host in ("localhost:8420", "127.0.0.1", "[::1]:80"):
        assert client.get("/api/health", headers={"host": host}).status_code == 200


def test_tokens(serve, index_folder):
    application = serve({TOKEN: "anna"}, is_loopback=False)
    nobody = client_of(application)
    refused(nobody.get("/api/health"), 401, "token")
    refused(nobody.get(f"/api/health?token={TOKEN}"), 401)
    refused(client_of(application, authorization=f"Bearer {TOKEN}x").get("/api/health"), 401)
    assert client_of(application, authorization=f"Bearer {TOKEN}").get("/api/facets").is_success
    assert nobody.get("/").status_code == 200  # The page asks for the token.
    refused(nobody.post("/api/login", json={"token": "wrong" * 5}), 403)
    refused(
        nobody.post(
            "/api/login", json={"token": "\u00e9\ud800".encode("utf-8", "replace").decode()}
        ),
        403,
    )
    answer = nobody.post("/api/login", json={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKEN not in cookie
    assert nobody.post("/api/people", json={}).is_success
    assert nobody.post("/api/images", json={}).is_success
    log = (index_folder / "audit.jsonl").read_text()
    actions = [(line["who"], line["action"]) for line in map(json.loads, log.splitlines())]
    assert ("anna", "login") in actions and ("anna", "images") in actions
    assert ("", "login refused") in actions and TOKEN not in log


def test_others_are_let_in_with_a_token_alone():
    for host in ("127.0.0.1", "::1", "localhost", "127.5.5.5"):
        assert run.check_host(host, {})
    for host in ("0.0.0.0", "::", "10.1.2.3", "example.org"):
        with pytest.raises(UsageError, match="others could reach every picture"):
            run.check_host(host, {})
        assert not run.check_host(host, {TOKEN: "anna"})
    assert run.tokens_of((f"anna={TOKEN}", TOKEN + "2")) == {TOKEN: "anna", TOKEN + "2": "token"}
    for bad in ("short", "anna=short", "x" * 15, "anna=" + "\u00e9" * 20):
        with pytest.raises(UsageError, match="16 plain characters"):
            run.tokens_of((bad,))


def test_a_log_that_cannot_be_written_stops_the_searches(serve, monkeypatch):
    client = client_of(serve())

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("sicl_jax.serve.audit.os.write", full)
    refused(client.post("/api/images", json={}), 503, "audit log")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=9)
    | st.sampled_from(["0" * 24, "u" + "0" * 31, "same", "cam1", "../..", "/etc/passwd", "\x00"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
POSTS = [o for o in questions.OPERATIONS if o.method == "POST" and o.picture != "always"]


@pytest.fixture(scope="module")
def fuzzed(model, made_index, tmp_path_factory):
    """A client of a server of its own, whose state all examples share."""
    folder = shutil.copytree(made_index, tmp_path_factory.mktemp("fuzzed") / "index")
    with create(model, folder) as application:
        yield client_of(application), GalleryIndex.open(folder), folder


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_request_is_answered_or_refused(fuzzed, data):
    client, index, folder = fuzzed
    names = [image_id(entry.path) for entry in index.entries]
    operation = data.draw(st.sampled_from(POSTS))
    some = st.lists(st.sampled_from(names), max_size=4)
    likely = {
        "images": some, "same": some, "not_same": some, "shown": some, "mark":
        st.sampled_from(["same", "not_same", None]), "person": st.integers(1, 4),
        "people": st.lists(st.integers(1, 4), max_size=3), "top": st.integers(1, 30),
        "where": st.fixed_dictionaries({}, optional={
            "cameras": st.lists(st.sampled_from(["cam1", "cam2"]), max_size=2),
            "since": st.floats(),
        }),
    }  # fmt: skip
    fields = {
        n: st.one_of(likely[n], likely[n], JSON) if n in likely else JSON for n in operation.fields
    }
    if operation.name == "group":  # Takes long where it is let through.
        fields = {"k1": JSON, "eps": st.text()}
    required = {n: f for n, f in fields.items() if n in operation.required}
    optional = {n: f for n, f in fields.items() if n not in operation.required}
    asked = data.draw(st.fixed_dictionaries(required, optional=optional) | JSON)
    if operation.name == "group" and asked == {}:
        return
    body = json.dumps(asked).encode()
    headers = {"content-type": "application/json"}
    answer = client.post(operation.path, content=body, headers=headers)
    assert answer.status_code in (200, 400, 404, 413), (operation.name, asked, answer.text)
    if answer.status_code == 200:
        assert "error" not in answer.json()
    else:
        assert set(answer.json()) == {"error"} and "\n" not in answer.json()["error"]
    held = Marks(folder).all()  # What is on disk is whole, and an image is one person's at most.
    owned = [path for person in held.values() for path in person.same]
    assert len(owned) == len(set(owned))
    assert all(not set(p.same) & set(p.not_same) for p in held.values())
