"""Questions as they come in a URL, checked, and the words in which one is refused (RFC 9457)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from typing import Any, NoReturn

import msgspec
from aiohttp import web

LIMIT = 100
MAX_LIMIT = 1000
#: How long a body may take to arrive.
BODY_S = 20.0
PROBLEM = "application/problem+json"


def problem_body(status: int, title: str, detail: str, **more: object) -> bytes:
    """Return the body of an error answer (RFC 9457); `more` are extension members such as `parameter`."""
    return msgspec.json.encode(
        {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    )


def problem(status: int, detail: str, **more: object) -> web.HTTPException:
    """Return the error answer to raise; `more` as in `problem_body`."""
    kinds: dict[int, Callable[..., web.HTTPException]] = {
        400: web.HTTPBadRequest, 401: web.HTTPUnauthorized, 403: web.HTTPForbidden, 404: web.HTTPNotFound,
        409: web.HTTPConflict, 413: _too_large, 503: web.HTTPServiceUnavailable,
    }  # fmt: skip
    kind = kinds[status]
    body = problem_body(status, kind(text="").reason, detail, **more)
    headers = (
        {"WWW-Authenticate": 'Bearer realm="tocsin"'} if status == web.HTTPUnauthorized.status_code else {}
    )
    return kind(text=body.decode(), content_type=PROBLEM, headers=headers)


def _too_large(**more: Any) -> web.HTTPException:
    return web.HTTPRequestEntityTooLarge(max_size=0, actual_size=0, **more)


class Asked:
    """The query of one request, checked. What is wrong is refused with the parameter's name (400)."""

    def __init__(self, request: web.Request, names: set[str]) -> None:
        self._query = request.query
        for name in self._query:
            if name not in names:
                known = ", ".join(sorted(names)) or "none"
                refuse(name, f"there is no such parameter here; known: {known}")

    def text(self, name: str) -> str | None:
        """Return a parameter as it came; None when it is missing or empty."""
        return self._query.get(name) or None

    def one_of(self, name: str, values: Collection[str]) -> str | None:
        """Return a parameter that must be one of `values`."""
        text = self.text(name)
        if text is not None and text not in values:
            refuse(name, f"must be one of {', '.join(values) or 'none, there are none yet'}")
        return text

    def several(self, name: str, values: Iterable[str]) -> tuple[str, ...]:
        """Return what was asked by repeating the parameter or by commas."""
        given = [part for text in self._query.getall(name, []) for part in text.split(",") if part]
        if not set(given) <= {*values}:
            refuse(name, f"must be one or more of {', '.join(values)}")
        return tuple(dict.fromkeys(given))

    def limit(self) -> int:
        """Return how many items were asked for: 1 to `MAX_LIMIT`."""
        text = self.text("limit")
        if text is None:
            return LIMIT
        if not text.isascii() or not text.isdecimal() or len(text) > 4 or not 1 <= int(text) <= MAX_LIMIT:  # noqa: PLR2004
            refuse("limit", f"must be a whole number from 1 to {MAX_LIMIT}")
        return int(text)

    def moment(self, name: str) -> datetime | None:
        """Return a parameter that is a time with its zone, in UTC."""
        text = self.text(name)
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text.replace(" ", "+"))  # a "+" that was not escaped
            utc = None if moment.tzinfo is None else moment.astimezone(UTC)
        except (ValueError, OverflowError):  # the latter: an offset that leads out of the calendar
            utc = None
        if utc is None:
            refuse(name, "must be a time with its zone, as 2026-01-31T12:00:00Z")
        return utc


async def body_of(request: web.Request, most_bytes: int) -> bytes:
    """Return the whole body; refuse one that is larger (413) or does not come within `BODY_S` (503)."""
    raw = b""
    if (request.content_length or 0) > most_bytes:
        raise _larger(most_bytes)
    try:
        async with asyncio.timeout(BODY_S):
            while len(raw) <= most_bytes and not request.content.at_eof():
                raw += await request.content.read(most_bytes + 1 - len(raw))
    except TimeoutError as error:
        raise problem(503, f"the body did not arrive within {BODY_S:.0f} s; try again") from error
    if len(raw) > most_bytes:
        raise _larger(most_bytes)
    return raw


def _larger(most_bytes: int) -> web.HTTPException:
    return problem(413, f"the body has more than {most_bytes} bytes")


def refuse(parameter: str, what: str) -> NoReturn:
    """Raise the answer to a bad parameter."""
    raise problem(400, f"{parameter}: {what}", parameter=parameter)
