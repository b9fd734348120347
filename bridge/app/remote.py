"""The command line's way to a running sidecar: one request, one answer, or a sentence that says what to do.

Rules: redirects are refused, since the token would follow them. Loopback addresses never go through a proxy.
An answer is read as a stream, so that an export of any size passes; one that ends early is an error, not a
shorter file. The token stands in a header and in no message.

Decision: `urllib` rather than aiohttp. A command asks one question and ends; loading a web framework for it
costs more than the question.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import IO, Any

from typing_extensions import override

from bridge.errors import TocsinError

TIMEOUT_S = 30.0
CHUNK_BYTES = 1 << 18
#: The API gives out no more items at once.
MAX_PAGE = 1000


class RemoteError(TocsinError):
    """The sidecar could not be asked, or said no; the message is a sentence for a person."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status  # of HTTP; 0 when there was no answer


class Remote:
    """A running sidecar."""

    def __init__(self, url: str, token: str | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        """Take the address of a sidecar.

        Raises:
            RemoteError: The address is none, or the token cannot be one.
        """
        host = _host_of(url)
        self.url = url.rstrip("/")
        self._token = None if token is None else _sent(token)
        self._timeout_s = timeout_s
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if _is_loopback(host):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path: str, query: Mapping[str, object] | None = None) -> Any:
        """Return the decoded JSON answer to a GET; parameters that are None or empty are not sent.

        Raises:
            RemoteError: It cannot be reached, or refuses.
        """
        return self._json("GET", path, query)

    def post(self, path: str, body: bytes | None = None) -> Any:
        """Return the decoded JSON answer to a POST (None for an empty or other answer).

        Raises:
            RemoteError: It cannot be reached, or refuses.
        """
        return self._json("POST", path, None, body if body is not None else b"")

    def items(self, path: str, query: Mapping[str, object], *, limit: int) -> Iterator[dict[str, Any]]:
        """Return up to `limit` items of a list, asking page after page.

        Raises:
            RemoteError: It cannot be reached, or refuses.
        """
        cursor: str | None = None
        while limit > 0:
            page = self.get(path, {**query, "limit": min(limit, MAX_PAGE), "cursor": cursor})
            try:
                items, cursor = page["items"], page["next"]
            except (KeyError, TypeError) as error:
                raise self.foreign() from error
            if not isinstance(items, list) or not all(isinstance(each, dict) for each in items):
                raise self.foreign()
            yield from items
            limit -= len(items)
            if cursor is None or not items:
                return

    def foreign(self) -> RemoteError:
        """Return the error for JSON that is not what this release asks for."""
        return RemoteError(
            f"{self.url} answered JSON that is not understood; is it Tocsin, and of this release?"
        )

    def lines(self, path: str, query: Mapping[str, object]) -> Iterator[bytes]:
        """Return the lines of a streamed answer.

        Raises:
            RemoteError: It cannot be reached, refuses, or stops before the end.
        """
        with self._open("GET", path, query, None) as answer:
            rest = b""
            try:
                # Not `for line in answer`: that takes a broken connection for the end.
                while chunk := answer.read(CHUNK_BYTES):
                    *whole, rest = (rest + chunk).split(b"\n")
                    yield from (line + b"\n" for line in whole)
                if rest or getattr(answer, "length", None):  # fewer bytes than were announced
                    raise http.client.IncompleteRead(rest)
            except (http.client.HTTPException, OSError) as error:
                raise RemoteError(f"{self.url} stopped in the middle of the answer; run it again") from error

    def _json(
        self, method: str, path: str, query: Mapping[str, object] | None, body: bytes | None = None
    ) -> Any:
        with self._open(method, path, query, body) as answer:
            try:
                content = answer.read()
            except (http.client.HTTPException, OSError) as error:
                raise RemoteError(f"{self.url} stopped in the middle of the answer; try again") from error
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            if method == "POST":
                return None
            raise RemoteError(f"{self.url} answered something else than JSON; is it Tocsin?") from None

    def _open(
        self, method: str, path: str, query: Mapping[str, object] | None, body: bytes | None
    ) -> IO[bytes]:
        headers = {"Accept": "application/json", "User-Agent": "tocsin-cli"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        asked = [(key, value) for key, value in (query or {}).items() if value not in (None, "", ())]
        address = self.url + path + ("?" + urllib.parse.urlencode(asked, doseq=True) if asked else "")
        request = urllib.request.Request(address, data=body, headers=headers, method=method)  # noqa: S310 - scheme was checked
        try:
            answer: IO[bytes] = self._opener.open(request, timeout=self._timeout_s)
        except urllib.error.HTTPError as error:
            raise self._refusal(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._unreached(error) from error
        except UnicodeError:  # a host or path that no URL can hold as it is
            raise _no_address(self.url) from None
        return answer

    def _refusal(self, error: urllib.error.HTTPError) -> RemoteError:
        with error:
            body = error.read(1 << 20)
        try:
            said = json.loads(body)
            detail = "\n".join([said["detail"], *(f"  {fault}" for fault in said.get("faults", ()))])
        except (ValueError, KeyError, TypeError):
            detail = body[:200].decode(errors="replace").strip() or error.reason
        advice = {401: "; give it with --token, --token-file or TOCSIN_TOKEN"}.get(error.code, "")
        return RemoteError(f"{self.url} answered {error.code}: {detail}{advice}", status=error.code)

    def _unreached(self, error: Exception) -> RemoteError:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ConnectionRefusedError):
            return RemoteError(
                f"nothing answers at {self.url}: start Tocsin with `tocsin serve`,"
                " or name the address of a running one with --url"
            )
        if isinstance(reason, TimeoutError):
            return RemoteError(f"{self.url} did not answer within {self._timeout_s:g} s; try again")
        if isinstance(reason, ssl.SSLError) and not isinstance(reason, ssl.SSLCertVerificationError):
            return RemoteError(
                f"cannot speak TLS with {self.url}: is the sidecar behind https? It answers plain HTTP by itself;"
                f" try http:{self.url.partition(':')[2]}"
            )
        return RemoteError(f"cannot ask {self.url}: {reason}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Let a redirect come back as the error that it is."""

    @override
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _host_of(url: str) -> str:
    """Return the host of a sidecar's address; a user, a query or a fragment has no place in one."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port  # reading the port checks it
    except ValueError:
        raise _no_address(url) from None
    if parts.username is not None:  # not repeated: it may hold a password
        raise RemoteError("the address of a sidecar holds no user; give a token with --token or --token-file")
    if parts.scheme not in {"http", "https"} or not host or parts.query or parts.fragment:
        raise _no_address(url)
    return host


def _no_address(url: str) -> RemoteError:
    return RemoteError(f"{url!r} is no address of a sidecar; write it as http://HOST:PORT")


def _sent(token: str) -> str:
    """Return a token that a header can carry."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise RemoteError(
            "the token must be visible ASCII characters; look at --token, --token-file or TOCSIN_TOKEN"
        )
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
