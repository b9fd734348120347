"""What the claims of a verified token grant."""

from __future__ import annotations

import pytest

from bridge.auth import Grant, claimed, said

LOGIN = said(
    tenant_claim="org",
    role_claim="groups",
    roles={"readers": "viewer", "oncall": "responder", "sre": "admin"},
    tenants={"acme": (("10.0.0.0/8",),), "globex": ()},
    actor="logins[0]",
)


@pytest.mark.parametrize(
    ("claims", "tenant", "role", "actor"),
    [
        ({"org": "acme", "groups": "oncall", "sub": "jo"}, "acme", "responder", "jo"),
        (
            {"org": ["globex", "initech"], "groups": ["staff", "sre", "readers"]},
            "globex",
            "admin",
            "logins[0]",
        ),
        ({"org": "acme", "groups": ["readers", 7], "sub": "a\nb"}, "acme", "viewer", "logins[0]"),
    ],
)
def test_a_token_says_for_which_tenant_and_as_what(claims, tenant, role, actor):
    grant = LOGIN(claims)

    assert grant is not None
    assert (grant.tenant, grant.role, grant.actor, grant.shape) == (tenant, role, actor, "jwt")
    assert grant.allow_from == ((("10.0.0.0/8",),) if tenant == "acme" else ())


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"org": "acme"},
        {"groups": "sre"},
        {"org": "initech", "groups": "sre"},
        {"org": ["acme", "globex"], "groups": "sre"},
        {"org": "acme", "groups": "admin"},
        {"org": {"acme": 1}, "groups": "sre"},
        {"org": None, "groups": [None]},
    ],
)
def test_a_token_that_names_no_tenant_or_several_or_no_role_grants_nothing(claims):
    assert LOGIN(claims) is None


def test_a_credential_grants_what_it_says_to_those_who_have_its_claims():
    grant_of = claimed(Grant(tenant="t", role="viewer", actor="jwt[0]"), {"groups": "oncall", "azp": "x"})

    assert grant_of({"groups": ["oncall"], "azp": "x", "sub": "jo"}) == Grant(
        tenant="t", role="viewer", actor="jo"
    )
    assert grant_of({"groups": ["oncall"]}) is None
    assert grant_of({"groups": 5, "azp": "x"}) is None
