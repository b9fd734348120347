"""Rounds: what all Alertmanagers of a source listed when they were asked, and what of that is worth an inbox row.

Rules: a round is *whole* when every peer answered and none has just started (a restarted Alertmanager has forgotten
its alerts until Prometheus sends them again). Only whole rounds let an alert leave. An alert *stands* once every round
has listed it for the settling time, which is two group intervals of its Alertmanager: for so long a webhook about it
may be on its way. What left keeps its age until a row has told that it is over the settling time.

A row is written when what it says differs from what the last one said, when somebody waits for it, and else every
`AGAIN_S`. It names each alert in a hundred bytes; labels and annotations are told once something may follow from them
(it stands, or is held back), and again every `CONTENT_AGAIN_S`, for whoever could not use them before.

Decision: the memory of rounds is here, in the front, and a row holds conclusions ("stands", "left 40 s ago") rather
than bare lists. Whoever reads it needs no memory of earlier rows, so a row that is lost or set aside, and a front that
starts anew, cost time and never truth. Rejected: the difference to the row before, which is smaller and wrong for ever
once one is missed.

Decision: only lengths of time are told. Clocks of Alertmanagers are compared with nothing of ours.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Annotated

import msgspec

from bridge.model import Fault, Listed, Listing, Suppression, Word

#: A round that says the same as the last row is told again after so long.
AGAIN_S = 300.0
#: What an alert says of itself is told again after so long.
CONTENT_AGAIN_S = 3600.0
#: Settling takes so many group intervals: one for the webhook, one for its second try.
SETTLE_INTERVALS = 2.0
#: Faults remembered as told, so that one that stays in the list is set aside once.
MAX_TOLD_FAULTS = 1000
#: Of something unusable so much is kept.
FAULT_BYTES = 64 << 10

#: Seconds before a row; at most thirty years.
Ago = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class Content(Word, frozen=True, kw_only=True):
    """What an alert says of itself."""

    labels: dict[str, str]
    annotations: dict[str, str]
    generator_url: str = ""


class Standing(Word, frozen=True, kw_only=True, omit_defaults=True):
    """One alert as a round found it, over all peers."""

    fingerprint: str
    starts_at: Annotated[datetime, msgspec.Meta(tz=True)]  # the sender's, in milliseconds
    suppressed: Suppression = ""  # by every peer that lists it
    unprocessed: bool = False  # no peer has looked at it yet
    stands: bool = False  # every round since the settling time has listed it
    everywhere: bool = False  # every peer lists it
    ours: bool = False  # it is sent to Tocsin's receiver
    content: Content | None = None


class Unusable(Word, frozen=True, kw_only=True):
    """Something in a list that could not be used."""

    reason: str
    body_base64: str


class Found(Word, frozen=True, kw_only=True, omit_defaults=True):
    """What a round found: the body of a row of kind `found`."""

    asked: int  # peers
    #: Peers that did not answer, or have just started: nothing is known to be gone.
    silent: tuple[str, ...] = ()
    began_s: Ago = 0.0  # how long before this row the round began
    settled: bool = False  # rounds have been whole for at least the settling time
    listed: tuple[Standing, ...] = ()  # by fingerprint
    #: Fingerprint -> how long before this row a whole round first missed it.
    left: dict[str, Ago] = msgspec.field(default_factory=dict)
    unusable: tuple[Unusable, ...] = ()


class Answer(Word, frozen=True, kw_only=True):
    """What one peer answered."""

    listing: Listing
    is_young: bool = False  # it has just started


def settle_s(group_interval_s: float) -> float:
    """Return for how long a webhook about an alert may be on its way, in seconds."""
    return SETTLE_INTERVALS * group_interval_s


class Rounds:
    """The rounds over the peers of one source. Times are seconds of any steady clock."""

    def __init__(self, peers: Sequence[str], *, receiver: str, settle_s: float) -> None:
        self._peers = tuple(peers)
        self._receiver = receiver
        self._settle_s = settle_s
        self._standing: dict[str, Standing] = {}
        self._contents: dict[str, Content] = {}
        self._silent: tuple[str, ...] = self._peers
        self._faults: tuple[Fault, ...] = ()
        self._first_s: dict[str, float] = {}  # since when every round has listed it
        self._left_s: dict[str, float] = {}  # when a whole round first missed it
        self._whole_since_s: float | None = None
        self._began_s = 0.0
        self._told = b""
        self._told_s = float("-inf")
        self._content_told_s: dict[str, float] = {}
        self._faults_told: set[bytes] = set()

    def take(self, answers: Mapping[str, Answer | None], began_s: float) -> None:
        """Take in a round that began at `began_s`: what each peer answered, None for one that did not."""
        self._began_s = began_s
        heard = [answer.listing for peer in self._peers if (answer := answers.get(peer)) is not None]
        self._silent = tuple(
            peer for peer in self._peers if (answer := answers.get(peer)) is None or answer.is_young
        )
        self._faults = tuple(fault for listing in heard for fault in listing.faults)
        listed: dict[str, list[Listed]] = {}
        for listing in heard:
            for alert in listing.alerts:
                listed.setdefault(alert.fingerprint, []).append(alert)
        self._note_time(listed)
        self._contents = {
            fingerprint: Content(
                labels=alerts[0].labels, annotations=alerts[0].annotations, generator_url=alerts[0].generator_url
            )
            for fingerprint, alerts in listed.items()
        }  # fmt: skip
        self._standing = {
            fingerprint: self._over_all(fingerprint, listed[fingerprint]) for fingerprint in sorted(listed)
        }

    def row(self, now_s: float, *, wanted: bool = False) -> Found | None:
        """Return what the last round found if it is worth a row, or `wanted`; None if it is not."""
        unusable = tuple(
            Unusable(reason=fault.reason, body_base64=b64encode(fault.body[:FAULT_BYTES]).decode())
            for fault in dict.fromkeys(self._faults)  # two peers list the same
            if _digest(fault) not in self._faults_told
        )
        is_news = self._said() != self._told or bool(unusable)
        if not (is_news or wanted or now_s - self._told_s >= AGAIN_S):
            return None
        listed = tuple(
            msgspec.structs.replace(standing, content=self._contents[standing.fingerprint])
            if self._says_more(standing, now_s)
            else standing
            for standing in self._standing.values()
        )
        return Found(
            asked=len(self._peers), silent=self._silent, began_s=now_s - self._began_s,
            settled=self._is_settled(), listed=listed, unusable=unusable,
            left={fingerprint: now_s - at_s for fingerprint, at_s in sorted(self._left_s.items())},
        )  # fmt: skip

    def told(self, found: Found, now_s: float) -> None:
        """Note that what `row` returned is in the inbox."""
        self._content_told_s = {
            known: at_s for known, at_s in self._content_told_s.items() if now_s - at_s < CONTENT_AGAIN_S
        }
        for standing in found.listed:
            if standing.content is not None:
                self._content_told_s[standing.fingerprint] = now_s
        if len(self._faults_told) > MAX_TOLD_FAULTS:
            self._faults_told.clear()
        self._faults_told.update(map(_digest, self._faults))
        for fingerprint, age_s in found.left.items():
            if age_s >= self._settle_s:
                self._left_s.pop(fingerprint, None)
        self._told, self._told_s = self._said(), now_s

    def _note_time(self, listed: Mapping[str, object]) -> None:
        for fingerprint in listed:
            self._first_s.setdefault(fingerprint, self._began_s)
            self._left_s.pop(fingerprint, None)
        if self._silent:
            self._whole_since_s = None
        elif self._whole_since_s is None:
            self._whole_since_s = self._began_s
        for fingerprint in [known for known in self._first_s if known not in listed]:
            self._content_told_s.pop(fingerprint, None)
            del self._first_s[fingerprint]  # whoever lists it may be silent: then it must stand anew, no more
            if not self._silent:
                self._left_s[fingerprint] = self._began_s

    def _over_all(self, fingerprint: str, alerts: Sequence[Listed]) -> Standing:
        """Return what the peers that list an alert say together: it is active where one of them says so."""
        active = [alert for alert in alerts if not alert.suppressed]
        return Standing(
            fingerprint=fingerprint,
            starts_at=min(alert.starts_at for alert in alerts),
            suppressed="" if active else alerts[0].suppressed,
            unprocessed=all(alert.unprocessed for alert in alerts),
            stands=self._began_s - self._first_s[fingerprint] >= self._settle_s,
            everywhere=len(alerts) == len(self._peers),
            ours=any(self._receiver in alert.receivers for alert in alerts),
        )

    def _says_more(self, standing: Standing, now_s: float) -> bool:
        """Say whether labels and annotations of an alert are worth telling."""
        told_s = self._content_told_s.get(standing.fingerprint)
        is_of_use = (standing.stands and standing.ours) or standing.suppressed != ""
        return is_of_use and (told_s is None or now_s - told_s >= CONTENT_AGAIN_S)

    def _is_settled(self) -> bool:
        return self._whole_since_s is not None and self._began_s - self._whole_since_s >= self._settle_s

    def _said(self) -> bytes:
        """Return a digest of what is known, without what changes by itself."""
        over = [known for known, at_s in sorted(self._left_s.items()) if self._is_over(at_s)]
        still = [known for known, at_s in sorted(self._left_s.items()) if not self._is_over(at_s)]
        return _digest((self._silent, self._is_settled(), tuple(self._standing.values()), over, still))

    def _is_over(self, left_s: float) -> bool:
        return self._began_s - left_s >= self._settle_s


def _digest(thing: object) -> bytes:
    return blake2b(msgspec.msgpack.encode(thing), digest_size=16).digest()
