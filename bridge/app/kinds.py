"""The destination kinds there are, as `bridge.config` wants to be told of them.

Decision: a kind whose extra is not installed is known all the same, with its settings, and says what is missing where
a destination is of that kind. Rejected: to leave it out; the fault would then be that there is no such kind.
So it is with a kind from a package of other people that cannot be imported: it takes nothing with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import connectors
from bridge.config import DestinationKind
from bridge.ports import Caps
from connectors.credentials import DestinationSettings

NO_CAPS = Caps(mode="every", max_events=1, max_bytes=0, delivery_class="best effort")


def known_kinds() -> dict[str, DestinationKind]:
    """Return every installed destination kind by its name."""
    return {name: _known(name) for name in connectors.names()}


@dataclass(frozen=True, slots=True)
class Unusable:
    """A kind that is there by name only: its settings are not known, and `lacks` says why."""

    lacks: str
    Settings: type[Any] = DestinationSettings
    caps: Caps = NO_CAPS


def _known(name: str) -> DestinationKind:
    try:
        # The class itself is what is described: its `Settings` and `caps` are class attributes.
        kind, lack = connectors.described(name), connectors.lacks(name)
    except Exception as error:  # noqa: BLE001 (another's package may raise anything)
        what = f"the kind {name!r} cannot be loaded ({type(error).__name__}: {error})"
        return cast("DestinationKind", Unusable(what))
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
