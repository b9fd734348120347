"""Reading what the analyst has committed: incidents, events, quarantine, history. Never writes. See `reader`."""

from __future__ import annotations

from bridge.storage.reading.pages import Cursor, Lines, Page, read_cursor, write_cursor
from bridge.storage.reading.quarantine import Quarantined
from bridge.storage.reading.reader import StateReader

__all__ = [
    "Cursor",
    "Lines",
    "Page",
    "Quarantined",
    "StateReader",
    "read_cursor",
    "write_cursor",
]
