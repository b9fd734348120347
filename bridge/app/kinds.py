"""The destination kinds there are, as `bridge.config` wants to be told of them."""

from __future__ import annotations

from typing import cast

import connectors
from bridge.config import DestinationKind


def known_kinds() -> dict[str, DestinationKind]:
    """Return every installed destination kind by its name."""
    # The class itself is what is described: its `Settings` and `caps` are class attributes.
    return {name: cast("DestinationKind", connectors.load(name)) for name in connectors.names()}
