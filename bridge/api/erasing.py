"""Erasing: what is known of a label, an alert or a tenant goes, because somebody asks for it.

Rules: nothing is erased here. What is meant is counted among what is stored, then a row says it; with `dry_run` it is
only counted. The tenant has to be named, so that nobody erases with the wrong token. The audit log has who asked, by
what and how much was found, never the value.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any
from uuid import uuid4

import msgspec
from aiohttp import web

from bridge.analysis.erasing import MAX_ERASED, Erase, Label
from bridge.api.asking import Asked, body_of, problem
from bridge.api.recording import recorded
from bridge.api.surroundings import Credential, Erasures, Surroundings
from bridge.model import RowKind, Word

MAX_BODY_BYTES = 1 << 16
_LATEST = datetime(9999, 12, 31, tzinfo=UTC)


class Wish(Word, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be erased: what has a label, one alert, or all of the tenant, which has to be named."""

    tenant: str
    label: Label | None = None
    fingerprint: Annotated[str, msgspec.Meta(max_length=MAX_ERASED)] = ""
    before: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    dry_run: bool = False


class Erasing:
    """The handlers of what is to be erased."""

    def __init__(
        self,
        kept: Erasures,
        read: Callable[[Callable[[], Any]], Awaitable[Any]],
        around: Surroundings,
    ) -> None:
        """Prepare; `read` asks a store in a thread."""
        self._kept = kept
        self._read = read
        self._around = around

    async def erase(self, request: web.Request, who: Credential) -> web.StreamResponse:
        """Answer POST /api/v1/erase: 202 with the id, or 200 with the counts alone for a dry run."""
        wish = await _wish(request)
        if wish.tenant != who.tenant:
            raise problem(403, "these credentials are not of the tenant that is named")
        if wish.label is not None and wish.fingerprint:
            raise problem(400, "name a label or a fingerprint, not both; neither for all of the tenant")
        before = None if wish.before is None else wish.before.astimezone(UTC)
        erase = Erase(
            id=f"era-{uuid4().hex[:16]}", label=wish.label, fingerprint=wish.fingerprint, before=before
        )
        meant = await self._read(partial(self._kept.meant, who.tenant, erase, _LATEST))
        counts = {name: getattr(meant, name) for name in ("incidents", "emptied", "episodes", "alerts")}
        if wish.dry_run:
            return _json({"dry_run": True, "by": erase.by, "counts": counts})
        if erase.label is not None:
            erase = msgspec.structs.replace(erase, fingerprints=meant.fingerprints)
        asked = {"by": erase.by, "label": erase.label and erase.label.name, "before": before}
        async with recorded(
            self._around.audit, request, who, "erase", target=who.tenant, asked=asked, before=counts
        ) as change:
            await self._around.put(who.tenant, "", RowKind.ERASE, msgspec.json.encode(erase))
            change.after = {"erasure": erase.id}
        return _json({"id": erase.id, "by": erase.by, "counts": counts}, status=202)

    async def erasures(self, request: web.Request, who: Credential) -> web.StreamResponse:
        """Answer GET /api/v1/erase: what was erased and what is being, newest first."""
        Asked(request, set())
        unfinished = {*self._around.erasing(who.tenant)}
        found = await self._read(partial(self._kept.erasures, who.tenant))
        items = [
            {**each, "state": "working" if each["id"] in unfinished else each["state"]} for each in found
        ]
        known = {each["id"] for each in items}
        waiting = [{"id": name, "state": "waiting"} for name in sorted(unfinished - known)]
        return _json({"items": [*waiting, *items], "next": None})


async def _wish(request: web.Request) -> Wish:
    raw = await body_of(request, MAX_BODY_BYTES)
    try:
        return msgspec.json.decode(raw, type=Wish)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise problem(400, f"the body cannot be used: {error}") from error
    except RecursionError as error:
        raise problem(400, "the body is nested too deeply") from error


def _json(answer: object, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), status=status, content_type="application/json")
