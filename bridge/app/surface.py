"""Everything that is answered at the address, in one place: who looks at all of it cannot miss a part.

Among it is the document that describes it.
"""

from __future__ import annotations

from aiohttp import web

from bridge.api import Api
from bridge.app.openapi import document
from bridge.intake import Intake, routes


def every_route(intake: Intake, api: Api, version: str) -> list[web.RouteDef]:
    """Return what the front answers, as it is added to its router.

    `version` is that of the program, for the document.

    Raises:
        KeyError: Nobody has said what one of them answers.
    """

    async def told(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=described, content_type="application/json")

    every = [*routes(intake), *api.routes(), web.get("/openapi.json", told)]
    described = document(every, version)
    return every
