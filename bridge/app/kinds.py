"""The destination kinds there are, as `bridge.config` wants to be told of them.

Decision: a kind whose extra is not installed is known all the same, with its settings, and says what is missing where
a destination is of that kind. Rejected: to leave it out; the fault would then be that there is no such kind.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import connectors
from bridge.config import DestinationKind


def known_kinds() -> dict[str, DestinationKind]:
    """Return every installed destination kind by its name."""
    return {name: _known(name) for name in connectors.names()}


def _known(name: str) -> DestinationKind:
    # The class itself is what is described: its `Settings` and `caps` are class attributes.
    kind, lack = connectors.described(name), connectors.lacks(name)
    if lack:
        return cast(
            "DestinationKind", SimpleNamespace(Settings=_lacking(kind.Settings, lack), caps=kind.caps)
        )
    return cast("DestinationKind", kind)


def _lacking(settings: type[Any], lack: str) -> type[Any]:
    """Return a model of settings that are good and of no use."""

    def faults(self: Any, data_dir: Path) -> dict[str, str]:
        own: dict[str, str] = settings.faults(self, data_dir)
        return own | {"kind": lack}

    return type(settings.__name__, (settings,), {"__module__": settings.__module__, "faults": faults})
