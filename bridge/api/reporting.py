"""Incidents as a table, for Grafana, Power BI and spreadsheets: JSON or CSV, with an ETag.

Rule: no value is nested, and the columns are always the same ones in the same order (`reports.FLAT`).

Decision: a cursor as in the other lists, in JSON beside the rows, for CSV in a `Link` header (RFC 8288), which has no
other place for it. Rejected: to stream everything: a panel that is refreshed every minute would read a year each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import hdrs, web

from bridge.analysis.reports import FLAT
from bridge.tabular import as_csv

JSON, CSV = "application/json", "text/csv"
COLUMNS = tuple(FLAT)


def wants_csv(request: web.Request) -> bool:
    """Return whether CSV was asked for: by the path, or by an Accept that names it and not JSON."""
    accept = request.headers.get(hdrs.ACCEPT, "")
    return request.path.endswith(".csv") or (CSV in accept and JSON not in accept)


def table(
    request: web.Request, items: Sequence[Mapping[str, Any]], following: str | None
) -> web.StreamResponse:
    """Return the answer, or 304 where the caller has it already."""
    is_csv = wants_csv(request)
    body = as_csv(COLUMNS, items) if is_csv else msgspec.json.encode({"items": items, "next": following})
    # The next part belongs to the answer even where it stands in a header.
    tag = f'"{hashlib.sha256(body + (following or "").encode()).hexdigest()[:32]}"'
    headers = {hdrs.ETAG: tag, hdrs.VARY: hdrs.ACCEPT, hdrs.CACHE_CONTROL: "private, no-cache"}
    if is_csv and following is not None:
        address = request.rel_url.update_query(cursor=following)
        headers[hdrs.LINK] = f'<{address}>; rel="next"'
    given = request.headers.get(hdrs.IF_NONE_MATCH, "")
    if tag in {each.strip().removeprefix("W/") for each in given.split(",")}:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers, content_type=CSV if is_csv else JSON, charset="utf-8")
