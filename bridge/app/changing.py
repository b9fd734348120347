"""What a running front takes over from a changed configuration, and what waits for the next start."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bridge.auth import CertificateRule, Grant, GrantOf, Keyring, Shape, Signer, Verifier, claimed, said
from bridge.config import Credential, Issued, Login, Settings

if TYPE_CHECKING:
    from bridge.auth.jwts import Keys

#: Settings that a running front cannot change, and what they are called in the file.
FIXED = {
    "host": "listen",
    "port": "listen",
    "data_dir": "storage.path",
    "max_body_bytes": "limits.max_body",
    "budget_bytes": "limits.budget",
    "redact_key": "redact.key",
}


def in_force(old: Settings, new: Settings) -> Settings:
    """Return `new` with what only a restart can change as it was."""
    fixed = {name: getattr(old, name) for name in FIXED}
    if _encryption(old) != _encryption(new):
        fixed["tls"] = old.tls
    return dataclasses.replace(new, **fixed)


def later(old: Settings, new: Settings) -> tuple[str, ...]:
    """Return what changed and acts from the next start on, as the file names it."""
    changed = [key for name, key in FIXED.items() if getattr(new, name) != getattr(old, name)]
    if _encryption(old) != _encryption(new):
        changed.append("tls")
    return tuple(dict.fromkeys(changed))


def _encryption(settings: Settings) -> tuple[bool, bool, bool]:
    """Return what of TLS is settled at the start; its files may change."""
    tls = settings.tls
    if tls is None:
        return (False, False, False)
    return (True, bool(tls.client_ca_file), tls.require_client_certificate)


def key_places(settings: Settings) -> dict[str, str]:
    """Return where the public keys of issuers are fetched from, each with its file of authorities."""
    given = settings.credentials
    every = (*(each.issued for each in given.jwt), *(each.issued for each in given.logins))
    return {issued.jwks_url: issued.ca_file for issued in every if issued.jwks_url is not None}


def keyring_of(settings: Settings, fetched: Mapping[str, Keys], minted: Verifier) -> Keyring:
    """Return the credentials that are accepted.

    `fetched` has the keys of each of `key_places`, `minted` knows the tokens that Tocsin made.
    """
    given = settings.credentials
    return Keyring(
        ((each.secret.get_secret_value(), _grant(each, "token")) for each in given.tokens),
        passwords=(
            (each.username, each.secret.get_secret_value(), _grant(each, "password"))
            for each in given.passwords
        ),
        verifiers=[
            *(
                _issuer(each.issued, fetched, claimed(_grant(each, "jwt"), each.claims), (each.tenant,))
                for each in given.jwt
            ),
            *(_issuer(each.issued, fetched, _said(each), tuple(each.tenants)) for each in given.logins),
        ],
        signers=[
            Signer(
                each.secret.get_secret_value().encode(),
                _grant(each, "signature"),
                header=each.header,
                timestamp_header=each.timestamp_header,
                max_age_s=each.max_age_s,
                scheme=each.scheme,
            )
            for each in given.signatures
        ],
        certificates=[
            CertificateRule(
                grant=_grant(each, "certificate"), san=each.san, subject=tuple(sorted(each.subject.items()))
            )
            for each in given.certificates
        ],
        minted=minted,
        key=secrets.token_bytes(32),
    )


def _issuer(
    issued: Issued, fetched: Mapping[str, Keys], grant_of: GrantOf, tenants: tuple[str, ...]
) -> Verifier:
    # With `cryptography` behind it this is dear, and most need no signed tokens.
    from bridge.auth.jwts import Issuer, Keys  # noqa: PLC0415

    keys = None if issued.jwks_url is None else fetched.get(issued.jwks_url) or Keys(issued.jwks_url)
    if issued.jwks is not None:
        keys = Keys("a file")
        keys.take(issued.jwks.encode())
    return Issuer(
        issuer=issued.issuer,
        audience=issued.audience,
        algorithms=issued.algorithms,
        keys=keys,
        secret=None if issued.secret is None else issued.secret.get_secret_value(),
        leeway_s=issued.leeway_s,
        grant_of=grant_of,
        tenants=tenants,
    )


def _said(login: Login) -> GrantOf:
    return said(
        tenant_claim=login.tenant_claim,
        role_claim=login.role_claim,
        roles=login.roles,
        tenants=login.tenants,
        actor=login.actor,
    )


def _grant(given: Credential, shape: Shape) -> Grant:
    return Grant(
        tenant=given.tenant,
        role=given.role,
        shape=shape,
        source=given.source,
        allow_from=given.allow_from,
        actor=given.actor,
    )
