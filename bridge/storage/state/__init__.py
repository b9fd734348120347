"""`state.db`: what thinking knows, the events and the outbox; written by the analyst alone, one transaction a batch.

See `store` for what is promised, `schema` for the tables.
"""

from __future__ import annotations

from bridge.storage.state.schema import STATE_SCHEMA
from bridge.storage.state.store import Pruned, StateStore

__all__ = ["STATE_SCHEMA", "Pruned", "StateStore"]
