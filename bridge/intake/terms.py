"""What the door is told, what it tells, and why it refuses."""

from __future__ import annotations

from typing import Final, Literal, Protocol

from bridge.auth import Denied, Grant
from bridge.model import RowKind, Word

#: Why a request was not answered 200. Those of the last line never reached the door: see `bridge.intake.serving`.
Refusal = Literal[
    "source", "credentials", "role", "cross_site", "encoding", "content_type", "too_large", "payload",
    "keys", "busy", "slow", "broken", "disk_full", "storage", "quota", "in_flight",
    "path", "method", "malformed",
]  # fmt: skip
STATUS: Final[dict[Refusal, int]] = {
    "source": 400, "credentials": 401, "role": 403, "cross_site": 403, "encoding": 415, "content_type": 415,
    "too_large": 413, "payload": 400, "keys": 503, "busy": 503, "slow": 503, "broken": 400, "disk_full": 503,
    "storage": 503, "quota": 503, "in_flight": 503,
    "path": 404, "method": 405, "malformed": 400,
}  # fmt: skip


class IntakeSettings(Word, frozen=True, kw_only=True):
    """What the door lets in."""

    max_body_bytes: int = 64 << 20  # 413 above; 10,000 alerts in one group are 8.8 MB
    budget_bytes: int = 256 << 20  # of memory for bodies that are read or wait for their commit; 503 above
    body_timeout_s: float = 20.0  # for a whole body to arrive, a larger one in step with it; 503 after
    retry_after_s: int = 1
    rejected_bytes: int = 1 << 20  # of one body that goes to quarantine; the rest is cut off
    rejected_bytes_per_min: int = 8 << 20  # of such bodies, per tenant; more are only counted


class Inbox(Protocol):
    """Where webhooks are kept."""

    async def put(self, tenant: str, source: str, kind: RowKind, body: bytes) -> int:
        """Append a row and return its id after the commit; StorageError if it was not kept."""


class IntakeMeter(Protocol):
    """Who counts. Called on the event loop, per request: must be quick and never raise."""

    def accepted(self, alerts: int, size_bytes: int) -> None:
        """Hear of a webhook that was committed."""

    def refused(self, reason: Refusal) -> None:
        """Hear of a request that was not answered 200."""


class Quotas(Protocol):
    """How much of each tenant is let in. Called on the event loop, per request: must be quick and never raise."""

    def refusal(self, tenant: str) -> str | None:
        """Return what the sender is told if the tenant has sent too much, or has too much; else None."""

    def took(self, tenant: str, size_bytes: int) -> None:
        """Hear of a body that was read."""

    def in_flight_bytes(self, tenant: str) -> int | None:
        """Return how much of the budget the tenant may have; None: what everybody may."""

    def crowded(self, tenant: str) -> None:
        """Hear of a body that was refused since the tenant has too much in flight."""


class NoQuotas:
    """Lets everything in."""

    def refusal(self, tenant: str) -> str | None:
        """Return None."""

    def took(self, tenant: str, size_bytes: int) -> None:
        """Hear of a body that was read."""

    def in_flight_bytes(self, tenant: str) -> int | None:
        """Return None."""

    def crowded(self, tenant: str) -> None:
        """Hear of a body that was refused since the tenant has too much in flight."""


class Witness(Protocol):
    """Who remembers who was let in. Called on the event loop, per request: must be quick and never raise."""

    def let_in(self, grant: Grant) -> None:
        """Hear of a credential that was accepted."""

    def turned_away(self, denied: Denied, peer: str | None) -> None:
        """Hear of a request whose credential is missing or was not accepted."""

    def undecided(self, place: str) -> None:
        """Hear of a request that could not be decided, since the keys of `place` cannot be had."""


class NoWitness:
    """Remembers nothing."""

    def let_in(self, grant: Grant) -> None:
        """Hear of a credential that was accepted."""

    def turned_away(self, denied: Denied, peer: str | None) -> None:
        """Hear of a request whose credential is missing or was not accepted."""

    def undecided(self, place: str) -> None:
        """Hear of a request that could not be decided, since the keys of `place` cannot be had."""


class NoMeter:
    """Counts nothing."""

    def accepted(self, alerts: int, size_bytes: int) -> None:
        """Hear of a webhook that was committed."""

    def refused(self, reason: Refusal) -> None:
        """Hear of a request that was not answered 200."""


class RefusedError(Exception):
    """The request gets no 200. `detail` goes to the sender."""

    def __init__(self, reason: Refusal, detail: str) -> None:
        super().__init__(detail)
        self.reason: Refusal = reason
        self.detail = detail
