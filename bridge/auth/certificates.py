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


def granted(certificate: Mapping[str, Any], rules: Iterable[CertificateRule]) -> Grant | None:
    """Return what the first rule that fits grants; None if none does."""
    sans = {_plain(kind, str(name)) for kind, name in certificate.get("subjectAltName", ())}
    subject = {(str(name), str(value)) for part in certificate.get("subject", ()) for name, value in part}
    for rule in rules:
        if rule.san is None and not rule.subject:
            continue
        asked = {(ATTRIBUTES.get(name, name), value) for name, value in rule.subject}
        if asked <= subject and (rule.san is None or rule.san in sans or rule.san.lower() in sans):
            return rule.grant
    return None


def _plain(kind: str, name: str) -> str:
    return name.lower() if kind in _CASELESS else name
