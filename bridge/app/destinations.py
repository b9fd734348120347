"""Destinations as configured become connectors; the senders they need are made once for all of them."""

from __future__ import annotations

from collections.abc import Iterable

import connectors
from bridge.config import DestinationSettings
from bridge.ports import Append, Connector, Frames, Http, Sender
from connectors.transport.files import FileSender
from connectors.transport.frames import FramesSender
from connectors.transport.http import HttpSender


def connectors_of(destinations: Iterable[DestinationSettings]) -> dict[str, Connector]:
    """Return a connector per destination, by name.

    Raises:
        ConfigError: A kind is not installed.
    """
    return {each.name: connectors.load(each.kind)(each.settings) for each in destinations}


def senders() -> dict[type, Sender]:
    """Return one sender per protocol. Close them in the loop that they were used in."""
    return {Http: HttpSender(), Frames: FramesSender(), Append: FileSender()}
