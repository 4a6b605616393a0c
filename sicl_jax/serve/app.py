"""HTTP for the API and its page."""

import asyncio
import importlib.resources
import json
import sys
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import sicl_jax
from sicl_jax.errors import UserError
from sicl_jax.serve import questions
from sicl_jax.serve.api import Api
from sicl_jax.serve.audit import AuditLog
from sicl_jax.serve.guard import COOKIE, Guard, Keys
from sicl_jax.serve.problems import ApiError
from sicl_jax.serve.questions import Operation
from sicl_jax.serve.thumbnails import SIZES

MOST_UPLOAD = 16 << 20
_MOST_JSON = 1 << 20
_SECONDS_TO_SEND = 30
_UPLOADS_AT_A_TIME = 16
_SECONDS_BEFORE_A_SECOND_GUESS = 0.5

_FILES = {
    "/": ("sicl_jax.serve", "page.html", "text/html"),
    "/page.js": ("sicl_jax.serve", "page.js", "text/javascript"),
    "/page.css": ("sicl_jax.serve", "page.css", "text/css"),
    "/style.css": ("sicl_jax.report", "style.css", "text/css"),
}


def create(api: Api, keys: Keys, audit: AuditLog, *, is_loopback: bool) -> Guard:
    """The application.

    Args:
        api: What answers.
        keys: Who may ask.
        audit: Where it is noted.
        is_loopback: Whether it is reached from this machine alone.
    """
    server = _Server(api, keys, audit)
    routes = [Route(path, _file(*file)) for path, file in _FILES.items()]
    routes += [
        Route("/api", server.page),
        Route("/api/openapi.json", server.openapi),
        Route("/api/login", server.login, methods=["POST"]),
    ]
    for operation in questions.OPERATIONS:
        path = operation.path.replace("{person}", "{person:int}")
        routes.append(Route(path, server.endpoint(operation), methods=[operation.method]))
    application = Starlette(
        routes=routes,
        exception_handlers={
            ApiError: lambda _, error: _refused(error.status, str(error)),
            UserError: lambda _, error: _refused(503, str(error)),
            HTTPException: lambda _, error: _refused(error.status_code, error.detail),
            Exception: _failed,
        },
    )
    return Guard(application, keys, is_loopback=is_loopback)


def _refused(status: int, words: str) -> JSONResponse:
    return JSONResponse({"error": words}, status)


async def _failed(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001
    print(f"sicl-jax: {type(error).__name__} in {request.url.path}", file=sys.stderr)
    return _refused(500, "this failed in the server; its own output says more")


def _file(package: str, name: str, kind: str) -> Callable:
    content = importlib.resources.files(package).joinpath(name).read_bytes()

    async def endpoint(_: Request) -> Response:
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    return endpoint


class _Server:
    """Endpoints: from requests to calls of `Api` and back."""

    def __init__(self, api: Api, keys: Keys, audit: AuditLog):
        self._api = api
        self._keys = keys
        self._audit = audit
        self._uploads = asyncio.Semaphore(_UPLOADS_AT_A_TIME)
        self._special = {
            "picture": self._picture,
            "person": self._person,
            "embed": self._embed,
            "search": self._search,
            "table": self._table,
            "labelled": self._labelled,
        }

    # ---- what is the same for all ------------------------------------------------------------

    def endpoint(self, operation: Operation) -> Callable:
        """The endpoint of an operation."""
        special = self._special.get(operation.name)
        ask = getattr(self._api, operation.name, None)

        async def answer(request: Request) -> Response:
            questions.check_query(operation, request.query_params)
            if special is not None:
                return await special(request, operation)
            asked: dict[str, Any] = {}
            if operation.method == "POST":
                asked = questions.check(operation, await _json(request))
            await self._note(request, operation, asked)
            arguments = (asked,) if operation.method == "POST" else ()
            return JSONResponse(await run_in_threadpool(ask, *arguments))

        return answer

    async def _note(self, request: Request, operation: Operation, what: dict[str, Any]) -> None:
        if not operation.noted:
            return
        line = dict(what)
        for name in ("images", "same", "not_same", "shown"):  # Files say more than ids.
            if name in line:
                line[name] = await run_in_threadpool(self._api.paths, line[name][:100])
        address = request.client.host if request.client else ""
        who = request.scope["who"]
        await run_in_threadpool(self._audit.note, who, address, operation.name, **{"asked": line})

    # ---- what is special ---------------------------------------------------------------------

    async def page(self, _: Request) -> Response:
        """The API for people."""
        return Response(questions.page(sicl_jax.__version__), media_type="text/html")

    async def openapi(self, _: Request) -> Response:
        """The API for programs."""
        return JSONResponse(questions.openapi(sicl_jax.__version__))

    async def login(self, request: Request) -> Response:
        """Gives a cookie for a token."""
        asked = await _json(request)
        token = asked.get("token") if isinstance(asked, dict) else None
        if not self._keys.needed or not isinstance(token, str):
            raise ApiError(400, "send a token, where one is needed")
        name = self._keys.name_of(token)
        address = request.client.host if request.client else ""
        action = "login" if name else "login refused"
        await run_in_threadpool(self._audit.note, name or "", address, action)
        if name is None:
            await asyncio.sleep(_SECONDS_BEFORE_A_SECOND_GUESS)
            raise ApiError(403, "this token is not known")
        answer = JSONResponse({"who": name})
        answer.set_cookie(
            COOKIE, self._keys.start_session(name), httponly=True, samesite="strict",
            secure=request.url.scheme == "https",
        )  # fmt: skip
        return answer

    async def _picture(self, request: Request, operation: Operation) -> Response:
        size, name = request.path_params["size"], request.path_params["image"]
        if size not in SIZES:
            raise ApiError(404, f"there are pictures of the sizes {', '.join(SIZES)}")
        if size == "large":
            await self._note(request, operation, {"images": [name]})
        data = await run_in_threadpool(self._api.thumbnail, name, size)
        headers = {"cache-control": "private, max-age=3600"}
        return Response(data, media_type="image/jpeg", headers=headers)

    async def _person(self, request: Request, operation: Operation) -> Response:
        number = request.path_params["person"]
        await self._note(request, operation, {"person": number})
        return JSONResponse(await run_in_threadpool(self._api.person, number))

    async def _embed(self, request: Request, operation: Operation) -> Response:
        async with self._uploads:
            data = await _body(request, MOST_UPLOAD)
            modality = request.query_params.get("modality")
            found = await run_in_threadpool(self._api.embed, data, modality)
        await self._note(request, operation, {"sha256": found["sha256"]})
        return JSONResponse(found)

    async def _search(self, request: Request, operation: Operation) -> Response:
        if not request.headers.get("content-type", "").startswith("image/"):
            if request.query_params:
                raise ApiError(400, "ask in the JSON, not in the query string beside it")
            asked = questions.check(operation, await _json(request))
            await self._note(request, operation, asked)
            return JSONResponse(await run_in_threadpool(self._api.search, asked))
        asked = questions.check(operation, _asked_in_query(request))
        async with self._uploads:
            data = await _body(request, MOST_UPLOAD)
            modality = request.query_params.get("modality")
            found = await run_in_threadpool(self._api.search_picture, data, modality, asked)
        await self._note(request, operation, {**asked, "sha256": found["sha256"]})
        return JSONResponse(found)

    async def _table(self, request: Request, operation: Operation) -> Response:
        everybody = request.query_params.get("all") == "1"
        await self._note(request, operation, {"all": everybody})
        data = await run_in_threadpool(lambda: self._api.table(everybody=everybody))
        return Response(data, media_type="text/csv", headers=_saved_as("people.csv"))

    async def _labelled(self, request: Request, operation: Operation) -> Response:
        everybody = request.query_params.get("all") == "1"
        await self._note(request, operation, {"all": everybody})
        file, left_out = await run_in_threadpool(lambda: self._api.labelled(everybody=everybody))
        headers = {**_saved_as("people.zip"), "x-left-out": str(left_out)}

        def parts():
            with file:
                while part := file.read(1 << 20):
                    yield part

        return StreamingResponse(parts(), media_type="application/zip", headers=headers)


def _saved_as(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}


def _asked_in_query(request: Request) -> dict[str, Any]:
    """Filters and number of results from a query string."""
    values = request.query_params
    where: dict[str, Any] = {
        field: values.getlist(name) for name, field in questions.IN_QUERY.items() if name in values
    }
    asked: dict[str, Any] = {}
    try:
        for name in {"since", "until"} & where.keys():
            where[name] = float(values[name])
        if "top" in values:
            asked["top"] = int(values["top"])
    except ValueError:
        raise ApiError(400, "top, since and until have to be numbers") from None
    return {**asked, "where": where}


async def _body(request: Request, most: int) -> bytes:
    """A request's body, never more of it than `most` bytes."""
    words = f"send {most >> 10} KiB at most"
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > most:
        raise ApiError(413, words)
    data = bytearray()
    try:
        async with asyncio.timeout(_SECONDS_TO_SEND):
            async for part in request.stream():
                data += part
                if len(data) > most:
                    raise ApiError(413, words)
    except TimeoutError:
        raise ApiError(408, f"the request took more than {_SECONDS_TO_SEND} s to arrive") from None
    except ClientDisconnect:
        raise ApiError(400, "the request broke off") from None
    if not data:
        raise ApiError(400, "the request is empty")
    return bytes(data)


async def _json(request: Request) -> Any:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise ApiError(415, "send JSON with 'Content-Type: application/json'")
    data = await _body(request, _MOST_JSON)
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise ApiError(400, "this is no JSON") from None
