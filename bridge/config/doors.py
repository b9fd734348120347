"""Who gets in, put together and checked: credentials of all tenants, TLS, and how much of each is let in.

Rule: a fault says where and what to write instead, and never repeats a secret.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from bridge.analysis.quotas import Quotas
from bridge.config.credentials import Credential, Issuing, LoginEntry, SignatureEntry, Tenant, Tls
from bridge.config.document import Document
from bridge.config.parts import Entry
from bridge.config.quotas import QuotasEntry
from bridge.config.settings import (
    Certificate,
    Credentials,
    DoorQuotas,
    Issued,
    Jwt,
    Login,
    Password,
    Signature,
    TlsSettings,
    Token,
)

_NO_CA = "needs tls.client_ca_file, or no client certificate is ever asked for"


def credentials_of(tenants: Sequence[Entry[Tenant]], logins: Sequence[Entry[LoginEntry]]) -> Credentials:
    """Return every credential of these tenants, and who may speak for several."""
    return Credentials(
        tokens=tuple(
            Token(**_common(tenant, entry, f"tokens[{number}]"), secret=entry.secret)
            for tenant in _values(tenants)
            for number, entry in enumerate(tenant.tokens)
        ),
        passwords=tuple(
            Password(**_common(tenant, entry, entry.username), username=entry.username, secret=entry.secret)
            for tenant in _values(tenants)
            for entry in tenant.passwords
        ),
        jwt=tuple(
            Jwt(
                **_common(tenant, entry, f"jwt[{number}]"),
                issued=_issued(entry),
                claims=entry.claims,
            )
            for tenant in _values(tenants)
            for number, entry in enumerate(tenant.jwt)
        ),
        logins=tuple(
            Login(
                issued=_issued(entry),
                tenant_claim=entry.tenant_claim,
                role_claim=entry.role_claim,
                roles=dict(entry.roles),
                tenants={
                    tenant.name: tuple(
                        tuple(group) for group in (tenant.allow_from, entry.allow_from) if group
                    )
                    for tenant in _values(tenants)
                },
                actor=f"logins[{number}]",
            )
            for number, (_, entry) in enumerate(logins)
        ),
        signatures=tuple(
            Signature(
                **_common(tenant, entry, f"signatures[{number}]"),
                secret=entry.shared,
                header=entry.header,
                timestamp_header=entry.timestamp_header,
                max_age_s=entry.max_age_s,
                scheme=entry.scheme,
            )
            for tenant in _values(tenants)
            for number, entry in enumerate(tenant.signatures)
        ),
        certificates=tuple(
            Certificate(
                **_common(tenant, entry, entry.san or f"certificates[{number}]"),
                san=entry.san,
                subject=entry.subject,
            )
            for tenant in _values(tenants)
            for number, entry in enumerate(tenant.certificates)
        ),
    )


def _issued(entry: Issuing) -> Issued:
    return Issued(
        issuer=entry.issuer,
        audience=entry.audience,
        algorithms=entry.accepted,
        leeway_s=entry.leeway_s,
        jwks_url=entry.jwks_url,
        ca_file=entry.ca_file,
        jwks=entry.jwks_file,
        secret=entry.shared,
    )


def tls_of(tls: Tls) -> TlsSettings | None:
    """Return the files of TLS; None where there is none."""
    if tls.cert_file is None or tls.key_file is None:
        return None
    return TlsSettings(
        cert_file=tls.cert_file,
        key_file=tls.key_file,
        client_ca_file=tls.client_ca_file,
        require_client_certificate=tls.require_client_certificate,
    )


def check_tls(tls: Tls, tenants: Sequence[Entry[Tenant]], document: Document) -> None:
    """Check that certificate and key fit, and that client certificates are asked for where they are counted on."""
    if tls.cert_file is not None and tls.key_file is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.cert_file, tls.key_file, _no_password)
        except _EncryptedError:
            document.fault(
                ("tls", "key_file"), "is encrypted; write it without a password, readable to Tocsin only"
            )
        except (ssl.SSLError, OSError):
            document.fault(("tls", "key_file"), "is not the private key of the certificate in cert_file")
    if not tls.client_ca_file:
        for place, tenant in tenants:
            for number in range(len(tenant.certificates)):
                document.fault((*place, "certificates", number), _NO_CA)


def check_unique(tenants: Sequence[Entry[Tenant]], document: Document) -> None:
    """Check that no credential stands twice: whose it is would be left to chance."""
    kinds: dict[str, Callable[[Any], Hashable]] = {
        "tokens": lambda entry: entry.secret.get_secret_value(),
        "passwords": lambda entry: (entry.username, entry.secret.get_secret_value()),
        "jwt": lambda entry: (entry.issuer, entry.audience, *sorted(entry.claims.items())),
        "signatures": lambda entry: (entry.shared.get_secret_value(), entry.source),
        "certificates": lambda entry: (entry.san, *sorted(entry.subject.items())),
    }
    for kind, identity in kinds.items():
        seen: set[Hashable] = set()
        for place, tenant in tenants:
            for number, entry in enumerate(getattr(tenant, kind)):
                known = identity(entry)
                if known in seen:
                    document.fault((*place, kind, number), _twice(kind))
                seen.add(known)


class _EncryptedError(Exception):
    """OpenSSL asks for a password."""


def _no_password() -> str:
    raise _EncryptedError


def _twice(kind: str) -> str:
    what = "token" if kind == "tokens" else "credential"
    return f"is the {what} of an earlier entry too; each entry needs its own"


def door_quotas_of(names: Sequence[str], tenants: Sequence[Entry[Tenant]]) -> dict[str, DoorQuotas]:
    """Return how much of each tenant is let in, of one with faults the usual."""
    given = {tenant.name: tenant.quotas for tenant in _values(tenants)}
    found = {name: given.get(name, QuotasEntry()) for name in names}
    return {
        name: DoorQuotas(
            bytes_per_s=float(quotas.bytes_per_s),
            in_flight_bytes=quotas.in_flight_bytes,
            storage_bytes=quotas.storage_bytes,
        )
        for name, quotas in found.items()
    }


def quotas_of(tenants: Sequence[Entry[Tenant]]) -> tuple[Quotas, ...]:
    """Return what thinking allows the tenants that may take more or less than usual."""
    found = (
        Quotas(
            tenant=tenant.name,
            alerts_per_s=tenant.quotas.alerts_per_s,
            fingerprints=tenant.quotas.fingerprints,
            templates=tenant.quotas.templates,
            open_incidents=tenant.quotas.open_incidents,
        )
        for tenant in _values(tenants)
    )
    return tuple(each for each in found if each != Quotas(tenant=each.tenant))


def _values(tenants: Iterable[Entry[Tenant]]) -> Iterable[Tenant]:
    return (tenant for _, tenant in tenants)


def _common(tenant: Tenant, entry: Credential | SignatureEntry, actor: str) -> dict[str, Any]:
    groups = (tuple(tenant.allow_from), tuple(entry.allow_from))
    return {
        "tenant": tenant.name,
        "role": entry.role,
        "source": entry.source,
        "allow_from": tuple(group for group in groups if group),
        "actor": actor,
    }
