"""Everything that is answered at the address, in one place: who looks at all of it cannot miss a part."""

from __future__ import annotations

from aiohttp import web

from bridge.api import Api
from bridge.intake import Intake, routes


def every_route(intake: Intake, api: Api) -> list[web.RouteDef]:
    """Return what the front answers, as it is added to its router."""
    return [*routes(intake), *api.routes()]
