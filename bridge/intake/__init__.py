"""The door: HTTP in, who sends, is it a webhook, is it on the disk, then 200. See `bridge.intake.door`."""

from __future__ import annotations

from bridge.intake.budget import Allowance, Budget, Hold
from bridge.intake.door import Intake, peer_of, routes
from bridge.intake.serving import BACKLOG, Connections, Runner, strays
from bridge.intake.terms import Inbox, IntakeMeter, IntakeSettings, NoMeter, Refusal

__all__ = [
    "BACKLOG",
    "Allowance",
    "Budget",
    "Connections",
    "Hold",
    "Inbox",
    "Intake",
    "IntakeMeter",
    "IntakeSettings",
    "NoMeter",
    "Refusal",
    "Runner",
    "peer_of",
    "routes",
    "strays",
]
