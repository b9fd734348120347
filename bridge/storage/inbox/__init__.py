"""The inbox: the only input and the only clock. One writer thread appends rows, the analyst reads them.

See `writer` for how a row gets onto the disk.
"""

from __future__ import annotations

from bridge.storage.inbox.file import SCHEMA, Position, begin_after
from bridge.storage.inbox.reader import InboxReader
from bridge.storage.inbox.writer import InboxWriter

__all__ = ["SCHEMA", "InboxReader", "InboxWriter", "Position", "begin_after"]
