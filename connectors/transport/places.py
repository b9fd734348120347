"""Which addresses may be connected to, and a socket that refuses the others.

Rules: what the configuration file names may be anywhere, this machine and private networks included: whoever writes it
runs both ends. But a name in it may not lead to an address that is no host's, or that only the machine's own provider
answers at (link-local, where clouds hand out credentials); written as an address it may. What anybody else names, a
remote answer or a caller of an API, has to be public.

Decision: asked where the socket is made, not where an address is read. A name is looked up anew for each connection
and may lead elsewhere each time; an address in a URL is never looked up; only the socket sees where it really goes.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp.connector import AddrInfoType

_NAT64 = ip_network("64:ff9b::/96")


def is_written_out(host: str) -> bool:
    """Return whether a host is an address, not a name."""
    return _address(host) is not None


def is_somewhere(host: str) -> bool:
    """Return whether a name may lead to this address."""
    return all(
        not (each.is_unspecified or each.is_multicast or each.is_link_local or _is_reserved(each))
        for each in _meant(host)
    )


def is_public(host: str) -> bool:
    """Return whether an address is one that anybody can reach, so that nothing is gained by going there from here."""
    return all(each.is_global and not each.is_multicast and not _is_reserved(each) for each in _meant(host))


def public_socket(where: AddrInfoType) -> socket.socket:
    """Return a socket for one address that somebody else named.

    Raises:
        OSError: It is not a public one.
    """
    family, kind, protocol, _, address = where
    if not is_public(str(address[0])):
        raise OSError(errno.EACCES, "the address is not a public one")
    return socket.socket(family, kind, protocol)


def _meant(host: str) -> tuple[IPv4Address | IPv6Address, ...]:
    """Return an address with the one that is wrapped into it: all of them have to be good."""
    address = _address(host)
    if address is None:
        return (IPv4Address(0),)  # nothing that a socket takes: as good as nowhere
    if isinstance(address, IPv4Address):
        return (address,)
    inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        inner.append(IPv4Address(int(address) & 0xFFFF_FFFF))
    found = tuple(each for each in inner if each is not None)
    # ::ffff:a.b.c.d is that IPv4 address and nothing else.
    return found if address.ipv4_mapped is not None else (address, *found)


def _is_reserved(address: IPv4Address | IPv6Address) -> bool:
    # Of IPv6 Python calls reserved what only is not handed out yet, NAT64 among it.
    return isinstance(address, IPv4Address) and address.is_reserved


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.partition("%")[0].strip("[]"))
    except ValueError:
        return None
