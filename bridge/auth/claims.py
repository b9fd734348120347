"""What the claims of a verified token grant: what a credential says, or what the claims say themselves.

Rule: pure, and called with claims of a token that was verified. A claim that is a list has each of its values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from bridge.auth.terms import ROLE_RANK, Grant, Networks, Role

Claims = Mapping[str, Any]
#: What claims grant; None for nothing.
GrantOf = Callable[[Claims], Grant | None]
#: Of a token's `sub` so much names who acts.
ACTOR_CHARS = 100


def claimed(grant: Grant, wanted: Mapping[str, str]) -> GrantOf:
    """Return who grants `grant` to claims that have the wanted values."""

    def grant_of(claims: Claims) -> Grant | None:
        if not all(value in _values(claims, name) for name, value in wanted.items()):
            return None
        return replace(grant, actor=_actor(claims, grant.actor))

    return grant_of


def said(
    *,
    tenant_claim: str,
    role_claim: str,
    roles: Mapping[str, Role],
    tenants: Mapping[str, Networks],
    actor: str,
) -> GrantOf:
    """Return who grants what claims say of themselves.

    Args:
        tenant_claim: The claim with the tenant. Exactly one of its values must be a tenant that there is: of several
            nobody could say which one is meant.
        role_claim: The claim with what may be done; the highest counts.
        roles: The roles that its values stand for.
        tenants: Those that there are, each with the networks that its people may come from.
        actor: Who acts where a token has no `sub`.
    """

    def grant_of(claims: Claims) -> Grant | None:
        named = {each for each in _values(claims, tenant_claim) if each in tenants}
        ranked = sorted(
            (roles[each] for each in _values(claims, role_claim) if each in roles), key=ROLE_RANK.__getitem__
        )
        if len(named) != 1 or not ranked:
            return None
        [tenant] = named
        return Grant(
            tenant=tenant,
            role=ranked[-1],
            shape="jwt",
            allow_from=tenants[tenant],
            actor=_actor(claims, actor),
        )

    return grant_of


def _values(claims: Claims, name: str) -> tuple[str, ...]:
    found = claims.get(name)
    return tuple(each for each in (found if isinstance(found, list) else [found]) if isinstance(each, str))


def _actor(claims: Claims, otherwise: str) -> str:
    subject = claims.get("sub")
    return subject[:ACTOR_CHARS] if isinstance(subject, str) and subject.isprintable() else otherwise
