"""Bodies that their sender signed with a shared secret (HMAC-SHA256): webhooks, and what people press elsewhere.

Grafana signs `<timestamp>:<body>`, with a header of our choice. Slack signs `v0:<timestamp>:<body>` for a button that
was pressed, PagerDuty `<body>` alone for a page that was taken; their secrets are good for that and for nothing else,
and no secret of a sender is good for theirs. PagerDuty sends a signature for each secret while one is rotated.

Rules: a signature without a timestamp is none, for it would hold for ever; PagerDuty has no timestamp, so whoever reads
its webhooks has to know those that were there before. The timestamp (seconds since the epoch) must
be within the allowed age of now, either way. Both are looked at before a byte of the body is read; the body decides.
Digests are compared in constant time, all of them.

Theory of operation. `Signers.candidates` takes what the headers show and says who may have signed; `Signed.settle`
takes the body and says who did. Each secret costs a digest of the body, however many signatures are shown, so where
many sign, each is better bound to a source. Within the allowed age the same request may come again: it then has the
effect of a resend.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Literal, get_args

from bridge.auth.terms import Denied, Grant, Shown

#: Grafana's own name for the header; its timestamp has no header unless one is named.
SIGNATURE_HEADER = "X-Grafana-Alerting-Signature"
TIMESTAMP_HEADER = "X-Grafana-Alerting-Timestamp"
SLACK_SIGNATURE, SLACK_TIMESTAMP = "X-Slack-Signature", "X-Slack-Request-Timestamp"
PAGERDUTY_SIGNATURE = "X-PagerDuty-Signature"
#: Signatures of one request that are looked at.
MOST_SIGNATURES = 8
Scheme = Literal["grafana", "slack", "pagerduty"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
_is_digest = re.compile("[0-9a-fA-F]{64}").fullmatch
_is_timestamp = re.compile("[0-9]{1,12}").fullmatch


class Signer:
    """One shared secret, and what its holder may do."""

    __slots__ = ("_keyed", "grant", "header", "max_age_s", "scheme", "timestamp_header")

    def __init__(
        self,
        secret: bytes,
        grant: Grant,
        *,
        header: str = SIGNATURE_HEADER,
        timestamp_header: str = TIMESTAMP_HEADER,
        max_age_s: float = 300.0,
        scheme: Scheme = "grafana",
    ) -> None:
        self._keyed = hmac.new(secret, digestmod=sha256)
        self.grant = grant
        self.scheme: Scheme = scheme
        self.header = header
        self.timestamp_header = timestamp_header
        self.max_age_s = max_age_s

    def digest(self, timestamp: str, body: bytes) -> bytes:
        """Return what the holder of the secret would send, in hexadecimal digits."""
        keyed = self._keyed.copy()
        if self.scheme != "pagerduty":
            keyed.update(b"v0:" if self.scheme == "slack" else b"")
            keyed.update(timestamp.encode() + b":")
        keyed.update(body)
        return keyed.hexdigest().encode()


class Signed:
    """A request whose sender is known once its body is there."""

    def __init__(self, claims: Sequence[tuple[Signer, Sequence[str], str]]) -> None:
        """Take who may have signed, each with the signatures and the timestamp that the headers show."""
        self._claims = claims

    def settle(self, body: bytes) -> Grant | Denied:
        """Return what the signer may do. Costs about 1.5 ns a byte for each secret."""
        found: Grant | None = None
        for signer, signatures, timestamp in self._claims:
            digest = signer.digest(timestamp, body)
            for signature in signatures:  # no early exit: the time is the same for each
                if hmac.compare_digest(digest, signature.lower().encode()):
                    found = signer.grant
        return (
            Denied(shape="signature", why="the signature is of another secret or body")
            if found is None
            else found
        )


class Signers:
    """Those who may sign, found by the headers that they use and by what they send as."""

    def __init__(self, signers: Iterable[Signer]) -> None:
        self.every = tuple(signers)
        self._by_use: dict[tuple[str, str, float], dict[str | None, list[Signer]]] = {}
        self._pressed: dict[Scheme, list[Signer]] = {"slack": [], "pagerduty": []}
        for signer in self.every:
            if signer.scheme != "grafana":
                self._pressed[signer.scheme].append(signer)
                continue
            use = (signer.header, signer.timestamp_header, signer.max_age_s)
            self._by_use.setdefault(use, {}).setdefault(signer.grant.source, []).append(signer)

    def candidates(self, shown: Shown, now_s: float) -> Signed | Denied | None:
        """Return who may have signed; None if no signature is shown."""
        match shown.scheme:
            case "slack":
                return self._of_slack(shown, now_s)
            case "pagerduty":
                return self._of_pagerduty(shown)
            case _:
                return self._of_senders(shown, now_s)

    def _of_slack(self, shown: Shown, now_s: float) -> Signed | Denied | None:
        version, _, signature = (shown.header(SLACK_SIGNATURE) or "").partition("=")
        if not version:
            return None
        timestamp = shown.header(SLACK_TIMESTAMP) or ""
        known = self._pressed["slack"]
        why = ""
        if version != "v0" or not _is_digest(signature):
            why = "the signature is not v0= and 64 hexadecimal digits"
        elif not _is_timestamp(timestamp):
            why = f"the header {SLACK_TIMESTAMP} does not hold seconds since the epoch"
        else:
            known = [each for each in known if abs(now_s - int(timestamp)) <= each.max_age_s]
        if not why and known:
            return Signed([(each, [signature], timestamp) for each in known])
        why = why or (
            "the timestamp is too far from now" if self._pressed["slack"] else "no secret is for Slack"
        )
        return Denied(shape="signature", why=why)

    def _of_pagerduty(self, shown: Shown) -> Signed | Denied | None:
        header = shown.header(PAGERDUTY_SIGNATURE)
        if header is None:
            return None
        each_of = [
            each.strip().partition("=") for each in header.split(",", MOST_SIGNATURES)[:MOST_SIGNATURES]
        ]
        signatures = [digest for version, _, digest in each_of if version == "v1" and _is_digest(digest)]
        known = self._pressed["pagerduty"]
        if signatures and known:
            return Signed([(signer, signatures, "") for signer in known])
        why = (
            "no secret is for PagerDuty"
            if signatures
            else "there is no signature v1= and 64 hexadecimal digits"
        )
        return Denied(shape="signature", why=why)

    def _of_senders(self, shown: Shown, now_s: float) -> Signed | Denied | None:
        claims: list[tuple[Signer, Sequence[str], str]] = []
        why = ""
        for (header, timestamp_header, max_age_s), by_source in self._by_use.items():
            signature = shown.header(header)
            if signature is None:
                continue
            timestamp = shown.header(timestamp_header) or ""
            if not _is_digest(signature):
                why = "the signature is not 64 hexadecimal digits"
            elif not _is_timestamp(timestamp):
                why = f"the header {timestamp_header} does not hold seconds since the epoch"
            elif abs(now_s - int(timestamp)) > max_age_s:
                why = "the timestamp is too far from now"
            else:
                why = why or "no secret is for this source"
                bound = by_source.get(shown.source, []) if shown.source is not None else []
                claims += [(signer, [signature], timestamp) for signer in (*bound, *by_source.get(None, ()))]
        if claims:
            return Signed(claims)
        return Denied(shape="signature", why=why) if why else None
