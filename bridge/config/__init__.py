"""YAML to frozen `Settings`: the only room that reads a configuration.

Rules: unknown key = error; all faults at once, each with file, line, path and what to write instead; a secret
is never repeated in a fault. Nothing below `app` sees this room: `app` hands the parts on. Destination kinds
are handed in, so that this room knows no connector.

`document` reads YAML with places, `values` reads what is written in one place, `models` says what may be written,
`parts` validates piece by piece, `topology` reads the topology file, `faults` finds the words, `loading` puts it all
together, `settings` is what comes out.
"""

from __future__ import annotations

from bridge.config.loading import default, is_loopback, load, schema
from bridge.config.settings import (
    DeliverySettings,
    DestinationKind,
    DestinationSettings,
    PollSettings,
    SeriesSettings,
    Settings,
    Token,
)
from bridge.config.topology import load_topology

__all__ = [
    "DeliverySettings",
    "DestinationKind",
    "DestinationSettings",
    "PollSettings",
    "SeriesSettings",
    "Settings",
    "Token",
    "default",
    "is_loopback",
    "load",
    "load_topology",
    "schema",
]
