"""The door: HTTP in, who sends, is it a webhook, is it on the disk, then 200. See `bridge.intake.door`."""

from __future__ import annotations

from bridge.intake.budget import Allowance, Budget, Hold
from bridge.intake.door import Intake, routes
from bridge.intake.gate import Fetch, Gate, peer_of
from bridge.intake.serving import BACKLOG, Connections, Runner, strays
from bridge.intake.terms import (
    Inbox,
    IntakeMeter,
    IntakeSettings,
    NoMeter,
    NoQuotas,
    NoWitness,
    Quotas,
    Refusal,
    Witness,
)

__all__ = [
    "BACKLOG",
    "Allowance",
    "Budget",
    "Connections",
    "Fetch",
    "Gate",
    "Hold",
    "Inbox",
    "Intake",
    "IntakeMeter",
    "IntakeSettings",
    "NoMeter",
    "NoQuotas",
    "NoWitness",
    "Quotas",
    "Refusal",
    "Runner",
    "Witness",
    "peer_of",
    "routes",
    "strays",
]
