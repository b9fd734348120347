"""Client certificates to grants, by their names.

Rules: only what TLS has verified comes here. A rule asks for a subject alternative name, for attributes of the subject,
or for both; all it asks for must be there, letter by letter (host names and e-mail addresses: whatever their case).

Decision: the common name is an attribute like any other and stands in for no alternative name. Who is verified by
names must say which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bridge.auth.terms import Grant
from bridge.model import Word

#: How attributes are written in short, as in RFC 4514, and how OpenSSL calls them.
ATTRIBUTES = {
    "CN": "commonName", "O": "organizationName", "OU": "organizationalUnitName", "C": "countryName",
    "ST": "stateOrProvinceName", "L": "localityName", "DC": "domainComponent", "UID": "userId",
    "serialNumber": "serialNumber", "emailAddress": "emailAddress",
}  # fmt: skip
_CASELESS = {"DNS", "email"}


class CertificateRule(Word, frozen=True, kw_only=True):
    """Which certificates a grant is for."""

    grant: Grant
    san: str | None
    subject: tuple[tuple[str, str], ...] = ()  # attribute, as in `ATTRIBUTES` or OpenSSL's name, and value


class CertificateRules:
    """Rules, found by one name that each of them asks for, so that many cost no more than few."""

    def __init__(self, rules: Iterable[CertificateRule]) -> None:
        self.rules = tuple(rules)
        self._by_name: dict[tuple[str, str], list[CertificateRule]] = {}
        for rule in self.rules:
            for name in _anchors(rule):
                self._by_name.setdefault(name, []).append(rule)

    def granted(self, certificate: Mapping[str, Any]) -> Grant | None:
        """Return what the first rule that fits grants, those with an alternative name first; None if none does."""
        sans = {("", _plain(kind, str(name))) for kind, name in certificate.get("subjectAltName", ())}
        subject = {(str(name), str(value)) for part in certificate.get("subject", ()) for name, value in part}
        names = sans | subject
        for name in (*sorted(sans), *sorted(subject)):
            for rule in self._by_name.get(name, ()):
                if _subject(rule) <= subject and (rule.san is None or not names.isdisjoint(_spelt(rule.san))):
                    return rule.grant
        return None


def _anchors(rule: CertificateRule) -> Iterable[tuple[str, str]]:
    """Return the names of which a certificate has one if it fits."""
    if rule.san is not None:
        return _spelt(rule.san)
    return sorted(_subject(rule))[:1]


def _spelt(san: str) -> set[tuple[str, str]]:
    """Return how an alternative name may stand in a certificate, once host names are in lower case."""
    return {("", san), ("", san.lower())}


def _subject(rule: CertificateRule) -> set[tuple[str, str]]:
    return {(ATTRIBUTES.get(name, name), value) for name, value in rule.subject}


def _plain(kind: str, name: str) -> str:
    return name.lower() if kind in _CASELESS else name
