"""How the server below the door has to be run."""

from __future__ import annotations

from typing import Any, Final

#: How `aiohttp.web.AppRunner` has to be made for this room's promises to hold. `keepalive_timeout` is longer
#: than any `group_interval` in use, so that an Alertmanager seldom meets a connection that is just closing.
SERVER_OPTIONS: Final[dict[str, Any]] = {
    "auto_decompress": False,
    "access_log": None,
    "keepalive_timeout": 3630.0,
    "lingering_time": 10.0,
}
#: Alertmanager opens more than 2,000 connections at once when as many groups are new.
BACKLOG: Final = 4096
