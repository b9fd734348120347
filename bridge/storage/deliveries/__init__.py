"""Where deliveries live: `delivery.db`, written by the dispatcher alone, and the outbox it reads.

Rooms: `committing` is the one writer thread, `rows` the schema and the row forms, `claiming`, `moving` and
`tidying` every change as one function on a connection, `lines` what these share, `finding` what can start now,
`store` the dispatcher's face, `reading` the API's, `outbox` the analyst's file.

Theory: deliveries of one incident to one destination stand in a line. `line.due_at` says when the first of
them may go, so that the next work is found by one index, however long the backlog. A request that was
claimed holds the lines of its events until it is settled; its bytes are kept as they were sent.

Decision: what is claimed is marked before it is sent. A process that is killed leaves the mark, and the next
one sends the same bytes again, flagged as a possible repeat: at least once, under one event id.
"""

from __future__ import annotations

from bridge.storage.deliveries.outbox import OutboxReader
from bridge.storage.deliveries.reading import DeliveryPage, DeliveryReader
from bridge.storage.deliveries.store import DeliveryStore

__all__ = ["DeliveryPage", "DeliveryReader", "DeliveryStore", "OutboxReader"]
