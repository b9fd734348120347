"""The inbox: the only input and the only clock. One writer thread appends rows, the analyst reads them.

See `writer` for how a row gets onto the disk.
"""

from __future__ import annotations

from bridge.storage.inbox.erasing import EraseRow
from bridge.storage.inbox.file import Position
from bridge.storage.inbox.reader import InboxReader
from bridge.storage.inbox.rescue import Rescued, rescue
from bridge.storage.inbox.writer import InboxWriter

__all__ = ["EraseRow", "InboxReader", "InboxWriter", "Position", "Rescued", "rescue"]
