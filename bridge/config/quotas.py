"""What a configuration may say of how much of everybody's machine one tenant may take.

Rules: those of `models`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bridge.analysis.quotas import Quotas
from bridge.config.values import Section, Size

_USUAL = Quotas()
_Number = Annotated[int, Field(gt=0)]


class QuotasEntry(Section):
    """How much it may take; far more than is ordinary, so that no tenant can take everything."""

    bytes_per_s: Size = Field(
        default=64 << 20,
        description="Bytes of webhooks a second, as a mean over a minute; above it the answer is 503.",
    )
    in_flight_bytes: Size | None = Field(
        default=None,
        alias="in_flight",
        description="Memory for its webhooks in flight; null: half of what others leave of limits.budget. 503 above.",
    )
    storage_bytes: Size = Field(
        default=50 << 30,
        alias="storage",
        description="Room on the disk for its history, packed; when it is full the answer is 503.",
    )
    alerts_per_s: Annotated[float, Field(gt=0)] = Field(
        default=_USUAL.alerts_per_s,
        description="Alerts a second, as a mean over a minute; above it alerts are grouped by time alone.",
    )
    fingerprints: _Number = Field(
        default=_USUAL.fingerprints,
        description="Distinct alerts that are remembered; the same above it.",
    )
    templates: _Number = Field(
        default=_USUAL.templates,
        description="Texts that differ in more than numbers and labels; the same, and all that are new are one.",
    )
    open_incidents: _Number = Field(
        default=_USUAL.open_incidents,
        description="Incidents that are open, or over so lately that they may reopen; the same above it.",
    )
