"""The root, and every path at which there is nothing: both say where things are.

A first webhook is often sent to the wrong path. A bare 404 in Alertmanager's log helps nobody; this one names
the right path.

Decision: a middleware rather than a route for all other paths. With such a route the router would no longer say
that nothing was found, and whoever counts that would count nothing.
"""

from __future__ import annotations

import html
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.api.asking import PROBLEM, problem_body

WEBHOOKS = "webhooks go to POST /v1/alertmanager[/SOURCE]"
#: What the root points at, and what is found there.
LINKS: Mapping[str, str] = {
    "/api/v1/incidents": "incidents, newest first (?state=open&severity=critical)",
    "/api/v1/stats": "how it is doing",
    "/api/v1/models": "how alerts are grouped, on what evidence, and which detector each series has",
    "/api/v1/forecasts": "how likely an incident begins within the next hours, and why",
    "/api/v1/recommendations": "what to do before it begins",
    "/api/v1/topology": "who calls whom",
    "/api/v1/deliveries": "what went out and what waits",
    "/api/v1/quarantine": "what could not be used",
    "/api/v1/audit": "who changed what",
    "/api/v1/erase": "what was erased",
    "/openapi.json": "all of it for machines (OpenAPI 3.1)",
    "/metrics": "metrics for Prometheus",
    "/-/healthy": "whether the process answers",
    "/-/ready": "whether webhooks can be taken in",
}


async def welcome(_request: web.Request) -> web.StreamResponse:
    """Answer GET /: what there is, for somebody with a browser."""
    links = "\n".join(
        f'<li><a href="{path}">{path}</a>: {html.escape(what)}</li>' for path, what in LINKS.items()
    )
    page = (
        "<!doctype html>\n<title>Tocsin</title>\n<h1>Tocsin</h1>\n"
        f"<p>This is the Alertmanager sidecar: {html.escape(WEBHOOKS)}.</p>\n<ul>\n{links}\n</ul>\n"
        "<p>Where tokens are configured, /api/ wants <code>Authorization: Bearer</code> with one of them. "
        "On the command line: <code>tocsin incidents</code>, <code>tocsin --help</code>. The documentation is in "
        "<code>docs/</code> beside the program's source, the HTTP API in <code>docs/api.md</code>.</p>\n"
    )
    return web.Response(text=page, content_type="text/html")


@web.middleware
async def explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what no route answers: 404, or 405 where the path is good and the method is not."""
    error = request.match_info.http_exception
    if error is None:
        return await handler(request)
    if isinstance(error, web.HTTPMethodNotAllowed):
        listed = ", ".join(sorted(error.allowed_methods))
        detail = f"this path takes {listed}; {WEBHOOKS}"
        return _problem(error.status, error.reason, detail, {"Allow": listed})
    detail = f"there is nothing at this path: {WEBHOOKS}, the API is under /api/v1/, GET / lists the rest"
    return _problem(error.status, error.reason, detail, {})


def _problem(status: int, title: str, detail: str, headers: Mapping[str, str]) -> web.Response:
    body = problem_body(status, title, detail)
    return web.Response(status=status, body=body, content_type=PROBLEM, headers=headers)
