"""What a tenant above its quotas gets at the door: 503, before its body is read, and nobody else notices."""

from __future__ import annotations

import pytest
from bodies import alert, body
from doors import JSON

from bridge.auth import Grant
from bridge.intake import NoQuotas

TOKENS = [(f"{name}-token-0123456789", Grant(tenant=name, role="sender")) for name in ("acme", "other")]
ACME, OTHER = ({"Authorization": f"Bearer {token}"} for token, _ in TOKENS)


class Bounded(NoQuotas):
    """Quotas that the test sets."""

    def __init__(self) -> None:
        self.full = ""  # the tenant that has too much
        self.taken: list[tuple[str, int]] = []
        self.crowds: list[str] = []

    def refusal(self, tenant: str) -> str | None:
        return "too much" if tenant == self.full else None

    def took(self, tenant: str, size_bytes: int) -> None:
        self.taken.append((tenant, size_bytes))

    def in_flight_bytes(self, tenant: str) -> int | None:
        return 1000 if tenant == "acme" else None

    def crowded(self, tenant: str) -> None:
        self.crowds.append(tenant)


async def test_above_a_quota_of_bytes_it_is_503_with_a_time_to_come_again(doors):
    quotas = Bounded()
    door = await doors(tokens=TOKENS, quotas=quotas)
    quotas.full = "acme"
    assert await door.post(body(alert()), headers=JSON | ACME) == (503, {"error": "too much"})
    assert door.meter.reasons == {"quota": 1}
    assert quotas.taken == []
    assert (await door.post(body(alert()), headers=JSON | OTHER))[0] == 200
    quotas.full = ""
    assert (await door.post(body(alert()), headers=JSON | ACME))[0] == 200
    assert [tenant for tenant, _ in quotas.taken] == ["other", "acme"]


async def test_what_cannot_be_used_counts_as_well(doors):
    quotas = Bounded()
    door = await doors(tokens=TOKENS, quotas=quotas)
    assert (await door.post(b"{", headers=JSON | ACME))[0] == 400
    assert quotas.taken == [("acme", 1)]


@pytest.mark.parametrize("size", [600, 5000])
async def test_more_in_flight_than_a_tenant_may_have_is_503_and_one_body_it_may_always_have(doors, size):
    quotas = Bounded()
    door = await doors(tokens=TOKENS, quotas=quotas)
    first = door.intake.budget
    first.take("acme", size, large=False)
    assert (await door.post(body(alert()).ljust(600), headers=JSON | ACME))[0] == 503
    assert quotas.crowds == ["acme"]
    assert (await door.post(body(alert()), headers=JSON | OTHER))[0] == 200
    first.give_back("acme", size, large=False)
    assert (await door.post(body(alert()).ljust(5000), headers=JSON | ACME))[0] == 200
