"""The destinations, one module per kind; a kind of several parts is a folder.

Rules: a kind is pure (see `bridge.ports.Connector`) and knows no other kind and nothing of the transport. What two of
them need stands beside this room: `common`, `wording`, `credentials`, `formats`.
"""

from __future__ import annotations
