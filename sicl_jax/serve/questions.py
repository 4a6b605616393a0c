"""What the API understands: each operation, the fields of its request, and the OpenAPI page."""

import dataclasses
import html
from collections.abc import Iterable, Mapping
from typing import Any

from sicl_jax import schema
from sicl_jax.retrieval.facts import MODALITY_NAMES
from sicl_jax.serve.marks import MOST_IMAGES
from sicl_jax.serve.problems import ApiError
from sicl_jax.serve.thumbnails import SIZES

MOST_RESULTS = 1000
_TIME = schema.number


@dataclasses.dataclass(frozen=True)
class Field:
    """One value of a request.

    Attributes:
        fits: Whether a value is one.
        what: Its JSON schema; the description there is what errors say.
    """

    fits: schema.Check
    what: Mapping[str, Any]


def _many(check: schema.Check, most: int) -> schema.Check:
    return lambda value: isinstance(value, list) and len(value) <= most and all(map(check, value))


def _texts(most: int, words: str) -> Field:
    schema_of = {"type": "array", "items": {"type": "string"}, "maxItems": most}
    return Field(_many(schema.text(), most), {**schema_of, "description": words})


def _ids(words: str, pattern: str = "[0-9a-f]{24}") -> Field:
    items = {"type": "string", "pattern": f"^{pattern}$"}
    what = {"type": "array", "items": items, "maxItems": MOST_IMAGES, "description": words}
    return Field(_many(schema.text(pattern), MOST_IMAGES), what)


def _whole(least: int, most: int, words: str) -> Field:
    what = {"type": "integer", "minimum": least, "maximum": most, "description": words}
    return Field(schema.count(least, most), what)


def _number(words: str, low: float = -1e12, high: float = 1e12) -> Field:
    what = {"type": "number", "minimum": low, "maximum": high, "description": words}
    return Field(lambda v: schema.number(v) and low <= v <= high, what)


_WHERE = {
    "cameras": _texts(1000, "any of these cameras"),
    "folders": _texts(1000, "in or below any of these folders, as /api/facets lists them"),
    "modalities": _texts(2, "visible, infrared"),
    "since": _number("not before, seconds since 1970"),
    "until": _number("before, seconds since 1970"),
}


def _object(fields: Mapping[str, Field]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: dict(field.what) for name, field in fields.items()},
        "additionalProperties": False,
    }


_PERSON = _whole(1, 2**53, "a person's number")
_PAGE = {
    "offset": _whole(0, 2**40, "how many to pass over"),
    "top": _whole(1, MOST_RESULTS, "at most so many"),
}
FILTERED = {
    "where": Field(
        schema.record({}, {n: f.fits for n, f in _WHERE.items()}, others=False),
        {**_object(_WHERE), "description": "filters: cameras, folders, modalities, since, until"},
    )
}
IN_QUERY = {"camera": "cameras", "folder": "folders", "only": "modalities"}
IN_QUERY |= {"since": "since", "until": "until"}
"""What filters are called in a query string, in which a list is a name given several times."""

_MODALITY = {
    "modality": Field(
        lambda value: value in MODALITY_NAMES,
        {"enum": [*MODALITY_NAMES], "description": "of the picture, where the model reads it"},
    )
}
_BESIDE_PICTURE = {
    "top": _PAGE["top"], **{name: _WHERE[field] for name, field in IN_QUERY.items()}, **_MODALITY
}  # fmt: skip
_EXPORTED = {
    "all": Field(
        lambda value: value == "1", {"const": "1", "description": "1: with unchecked groups"}
    )
}
_SEARCH = {
    "same": _ids("images of the person who is looked for"),
    "not_same": _ids("images of others, to be pushed away"),
    "uploads": _ids("ids that /api/embed gave", "u[0-9a-f]{31}"),
    "person": _PERSON,
    "top": _PAGE["top"],
    **FILTERED,
}
_MARK = Field(
    lambda value: value in ("same", "not_same", None),
    {"enum": ["same", "not_same", None], "description": "same, not_same, or null for neither"},
)


@dataclasses.dataclass(frozen=True)
class Operation:
    """One thing that can be asked.

    Attributes:
        method: GET or POST.
        path: With `{parameters}`.
        name: Of the method of `Api`, and in the audit log.
        summary: What it does.
        fields: Of the request's JSON.
        query: Of its query string; of one that may take JSON only where it does not.
        required: Those that must be there.
        noted: Whether the audit log notes it.
        picture: Whether it takes a picture: always, or instead of JSON.
        answers: Media type of the answer.
    """

    method: str
    path: str
    name: str
    summary: str
    fields: Mapping[str, Field] = dataclasses.field(default_factory=dict)
    query: Mapping[str, Field] = dataclasses.field(default_factory=dict)
    required: tuple[str, ...] = ()
    noted: bool = True
    picture: str = "never"
    answers: str = "application/json"


OPERATIONS = (
    Operation("GET", "/api/health", "health", "Whether all is well", noted=False),
    Operation("GET", "/api/facets", "facets", "What can be filtered by", noted=False),
    Operation("POST", "/api/images", "images", "Images of the index", {**_PAGE, **FILTERED}),
    Operation(
        "GET", "/api/pictures/{size}/{image}", "picture", f"A picture: {' or '.join(SIZES)}",
        answers="image/jpeg",
    ),
    Operation(
        "POST", "/api/search", "search",
        "The images most like some images or one picture; the filters apply within the search",
        _SEARCH, _BESIDE_PICTURE, picture="or JSON",
    ),
    Operation(
        "POST", "/api/embed", "embed", "The feature of a picture, and an id to search with",
        query=_MODALITY, picture="always",
    ),
    Operation(
        "POST", "/api/people", "people", "People, unchecked groups of little trust first", _PAGE,
        noted=False,
    ),
    Operation("GET", "/api/people/{person}", "person", "One person with all images"),
    Operation(
        "POST", "/api/mark", "mark", "Mark images as a person's or not; kept at once",
        {
            "person": _PERSON, "images": _ids("what is marked"), "mark": _MARK,
            "shown": _ids("images that a new person is known by"),
        },
        required=("images", "mark"),
    ),
    Operation(
        "POST", "/api/merge", "merge", "Make one person of several",
        {"people": Field(
            _many(_PERSON.fits, 1000),
            {"type": "array", "items": dict(_PERSON.what), "maxItems": 1000,
             "description": "numbers; the first stays"},
        )},
        required=("people",),
    ),
    Operation(
        "POST", "/api/split", "split", "Make a new person of some of a person's images",
        {"person": _PERSON, "images": _ids("those of the new person")},
        required=("person", "images"),
    ),
    Operation(
        "POST", "/api/edit", "edit", "Name a person, or say whether somebody has checked them",
        {
            "person": _PERSON,
            "name": Field(schema.text(), {"type": "string", "maxLength": 100,
                                          "description": "a name"}),
            "checked": Field(schema.flag, {"type": "boolean", "description": "true or false"}),
        },
        required=("person",),
    ),
    Operation(
        "POST", "/api/forget", "forget", "Forget a person; the images stay", {"person": _PERSON},
        required=("person",),
    ),
    Operation(
        "POST", "/api/group", "group",
        "Compute groups; people whom somebody has checked stay, and groups say whom they are like",
        {
            "eps": _number("largest distance within a person, 0.1 to 0.85", 0.101, 0.85),
            "k1": _whole(2, 1000, "neighbours looked at"),
        },
    ),
    Operation(
        "GET", "/api/export/people.csv", "table",
        "Checked people as CSV, which `sicl-jax cluster --add` reads", query=_EXPORTED,
        answers="text/csv",
    ),
    Operation(
        "GET", "/api/export/people.zip", "labelled",
        "The same as folders with metadata.csv, which `sicl-jax prepare person_folder` reads",
        query=_EXPORTED, answers="application/zip",
    ),
)  # fmt: skip
"""All of them but `/api/login`, which `app` answers by itself."""


def check(operation: Operation, asked: Any) -> dict[str, Any]:
    """A request's JSON, if it is one.

    Raises:
        ApiError: It is not.
    """
    if not isinstance(asked, dict):
        raise ApiError(400, "send a JSON object")
    if asked.get("person", 0) is None:  # Nobody in particular.
        asked = {name: value for name, value in asked.items() if name != "person"}
    for name in operation.required:
        if name not in asked:
            raise ApiError(400, f"{name}: is missing")
    for name, value in asked.items():
        field = operation.fields.get(name)
        if field is None:
            known = ", ".join(operation.fields) or "none"
            raise ApiError(400, f"unknown field {ascii(name)[:60]}; known: {known}")
        if not field.fits(value):
            raise ApiError(400, f"{name}: has to be {field.what['description']}")
    return asked


def check_query(operation: Operation, names: Iterable[str]) -> None:
    """Refuses a query string with what means nothing there.

    Raises:
        ApiError: It has.
    """
    for name in names:
        if name not in operation.query:
            known = ", ".join(operation.query) or "none"
            raise ApiError(400, f"unknown parameter {ascii(name)[:60]}; known: {known}")


def openapi(version: str) -> dict[str, Any]:
    """The API as OpenAPI 3.1 describes it."""
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        content = {}
        if operation.picture != "always" and operation.method == "POST":
            body = _object(operation.fields) | {"required": list(operation.required)}
            content["application/json"] = {"schema": body}
        if operation.picture != "never":
            content["image/*"] = {"schema": {"type": "string", "format": "binary"}}
        names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
        about: dict[str, Any] = {
            "operationId": operation.name,
            "summary": operation.summary,
            "parameters": [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in names
            ]
            + [
                {"name": name, "in": "query", "schema": dict(field.what)}
                for name, field in operation.query.items()
            ],
            "responses": {
                "200": {"description": "done", "content": {operation.answers: {}}},
                "default": {
                    "description": "refused: one line says why",
                    "content": {"application/json": {"schema": _ERROR}},
                },
            },
        }
        if content:
            header = {"name": "X-Sicl-Jax", "in": "header", "required": True}
            about["parameters"].append({**header, "schema": {"type": "string", "const": "1"}})
            about["requestBody"] = {"required": True, "content": content}
        paths.setdefault(operation.path, {})[operation.method.lower()] = about
    return {
        "openapi": "3.1.0",
        "info": {"title": "sicl_jax: search", "version": version},
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}, {}],
    }


_ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}


def page(version: str) -> str:
    """The API as a page for people."""
    parts = []
    for operation in OPERATIONS:
        rows = "".join(
            f"<tr><td><code>{html.escape(name)}</code></td>"
            f"<td>{html.escape(str(field.what['description']))}"
            f"{' (required)' if name in operation.required else ''}</td></tr>"
            for name, field in (
                *operation.fields.items(),
                *((f"?{name}", field) for name, field in operation.query.items()),
            )
        )
        takes = {"never": "", "always": "Takes the bytes of a picture.",
                 "or JSON": "Takes JSON, or the bytes of a picture with what has a ? here in the "
                 "query string."}[operation.picture]  # fmt: skip
        parts.append(
            f"<section><h2><code>{operation.method} {html.escape(operation.path)}</code></h2>"
            f"<p>{html.escape(operation.summary)}. {takes} Answers {operation.answers}.</p>"
            + (f"<div class=scroll tabindex=0><table>{rows}</table></div>" if rows else "")
            + "</section>"
        )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<title>The API</title><link rel="icon" href="data:,">'
        '<link rel="stylesheet" href="/style.css"><link rel="stylesheet" href="/page.css">'
        '<script src="/page.js"></script></head><body><header><div>'
        f"<h1>The API</h1><p>sicl_jax {html.escape(version)}; for programs: "
        '<a href="/api/openapi.json">openapi.json</a>; <a href="/">the search page</a></p>'
        "</div></header><main><p class=note>POST needs the header <code>X-Sicl-Jax: 1</code>, and "
        "a server with tokens <code>Authorization: Bearer TOKEN</code>. What is refused is "
        'answered with <code>{"error": "one line"}</code>.</p>'
        + "".join(parts)
        + "</main></body></html>"
    )
