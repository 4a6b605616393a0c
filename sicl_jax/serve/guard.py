"""What every request has to pass before it is looked at, and what every answer carries."""

import hashlib
import hmac
import ipaddress
import json
import secrets
import time
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "sicl_jax_session"
HEADER = "x-sicl-jax"
_SECONDS_OF_A_SESSION = 12 * 3600
_MOST_SESSIONS = 1000
_OPEN = frozenset({"/", "/page.js", "/page.css", "/style.css", "/api/login"})

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ALWAYS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Keys:
    """Who may come in.

    Args:
        tokens: Names of people by their tokens; empty if everybody on this machine may.
    """

    def __init__(self, tokens: Mapping[str, str]):
        self._tokens = [(token.encode(), name) for token, name in tokens.items()]
        self._sessions: dict[bytes, tuple[str, float]] = {}

    @property
    def needed(self) -> bool:
        """Whether a token is asked for."""
        return bool(self._tokens)

    def name_of(self, token: str) -> str | None:
        """Whose token it is; takes as long whichever it is."""
        found = None
        for known, name in self._tokens:
            if hmac.compare_digest(known, token.encode("utf-8", "surrogatepass")):
                found = name
        return found

    def start_session(self, name: str) -> str:
        """A secret for a cookie that stands for a person for half a day."""
        now = time.monotonic()
        alive = [(k, v) for k, v in self._sessions.items() if v[1] > now]
        secret = secrets.token_urlsafe(32)
        self._sessions = dict(alive[-_MOST_SESSIONS + 1 :])
        self._sessions[_digest(secret)] = (name, now + _SECONDS_OF_A_SESSION)
        return secret

    def who(self, headers: Headers) -> str | None:
        """Who sends a request; None if nobody who may."""
        if not self.needed:
            return "local"
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.name_of(token.strip())
        try:
            held = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return None
        name, until = self._sessions.get(_digest(held.value if held else ""), ("", 0.0))
        return name if until > time.monotonic() else None


def _digest(secret: str) -> bytes:
    # Looked up by a digest, so that how long it takes says nothing of the secret.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class Guard:
    """Middleware: host, origin, header and token of requests; security headers of answers.

    Args:
        app: What requests go on to, with `scope["who"]` set.
        keys: Who may come in.
        is_loopback: Whether requests must have been addressed to this machine by its own names;
            else a foreign page could reach the server by a name that it lets point here.
    """

    def __init__(self, app: ASGIApp, keys: Keys, *, is_loopback: bool):
        self._app = app
        self._keys = keys
        self._is_loopback = is_loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses a request, or lets it through."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        refused = self._refusal(scope["method"], scope["path"], headers)
        if refused is None:
            scope["who"] = self._keys.who(headers)
            if scope["who"] is None and scope["path"] not in _OPEN:
                refused = 401, "a token is needed: log in, or send 'Authorization: Bearer TOKEN'"
        if refused is None:
            await self._app(scope, receive, send_safely)
            return
        status, words = refused
        body = json.dumps({"error": words}).encode()
        sent = [(b"content-type", b"application/json"), (b"connection", b"close")]
        if status == 401:
            sent.append((b"www-authenticate", b"Bearer"))
        sent.append((b"content-length", str(len(body)).encode()))
        await send_safely({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": body})

    def _refusal(self, method: str, path: str, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self._is_loopback and not is_loopback(_hostname(host)):
            return 421, "this server answers to localhost alone"
        site = headers.get("sec-fetch-site", "same-origin")
        if site not in ("same-origin", "none") and path != "/":
            return 403, "requests from other sites are refused"
        if method in ("GET", "HEAD"):
            return None
        if method != "POST":
            return 405, "only GET and POST are known here"
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return 403, "requests from other sites are refused"
        if not headers.get(HEADER):
            return 403, f"send the header '{HEADER}: 1', which a foreign page cannot"
        return None


def _hostname(host: str) -> str:
    """A Host header without its port."""
    name, _, port = host.rpartition(":")
    return name if name and port.isdecimal() and not host.endswith("]") else host


def is_loopback(host: str) -> bool:
    """Whether a name or an address means this machine and nothing else."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
