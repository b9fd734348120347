"""Every change that is made through the API, written down before and after."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web

from bridge.api.surroundings import Audit, Credential
from bridge.errors import StorageError


class Change:
    """One change while it is made; `after` is what came of it, once that is known."""

    def __init__(self) -> None:
        self.after: object = None


@asynccontextmanager
async def recorded(
    audit: Audit,
    request: web.Request,
    who: Credential,
    action: str,
    *,
    target: str = "",
    asked: object = None,
    before: object = None,
) -> AsyncIterator[Change]:
    """Write a change down before the block makes it, and after it whether it was made.

    Raises:
        StorageError: It cannot be written down; then the block does not run.
    """
    entry: dict[str, Any] = {
        "tenant": who.tenant, "actor": who.actor, "role": who.role, "peer": request.remote, "action": action,
        "target": target, "asked": asked, "before": before,
    }  # fmt: skip
    name = await audit.begin(entry)
    change = Change()
    done = False
    try:
        yield change
        done = True
    finally:
        with suppress(StorageError):  # what was made is made, and stands here; only its end does not
            await audit.end(name, tenant=who.tenant, done=done, after=change.after)
