"""Where a caller is: on this machine, in a network that is allowed, on the page of another site."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from bridge.auth.terms import Networks


@lru_cache(maxsize=1024)
def is_loopback(peer: str | None) -> bool:
    """Return whether `peer` is an address of this machine's loopback."""
    address = _address(peer)
    return address is not None and address.is_loopback


@lru_cache(maxsize=4096)
def is_within(peer: str | None, networks: Networks) -> bool:
    """Return whether `peer` is in a network of each group; without groups everybody is."""
    if not networks:
        return True
    address = _address(peer)
    return address is not None and all(_is_in(address, group) for group in networks)


def is_foreign(site: str | None) -> bool:
    """Return whether a browser says that the page of another site sends (`site`: the header Sec-Fetch-Site).

    Without credentials, from loopback, a browser is the way in for such a page. Nothing but browsers has the header.
    """
    return site is not None and site not in {"none", "same-origin"}


def _address(peer: str | None) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address((peer or "").partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:127.0.0.1, how a dual-stack socket shows IPv4
    return mapped or address


def _is_in(address: IPv4Address | IPv6Address, group: Sequence[str]) -> bool:
    return any(address in ip_network(network) for network in group)
