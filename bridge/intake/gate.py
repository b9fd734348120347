"""The gate before door and API: what a request shows of its sender, taken from it and put before the keyring.

Rules: one gate per front; the keyring may be replaced at any time, as a reload does. A header that stands twice is no
credential, for two readers may take one each. Keys that are not there are waited for, which is bounded by whoever
fetches them; nothing of a body is read meanwhile. What is wrong goes to the witness, who counts and logs; the sender is
told nothing of it.

Decision: the peer is the other end of the connection and never what a header such as X-Forwarded-For says, which
anybody can write. Behind a proxy the proxy has to ask who comes from where.

Decision: bodies that a signature has to admit and that are no webhooks have a small budget of their own, shared as that
of the webhooks is. Strangers who send them, or begin to, then hold little, and nothing of what webhooks need.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from bridge.auth import Denied, Grant, Keyring, KeysNeeded, Scheme, Shown, Signed
from bridge.errors import UndecidedError
from bridge.intake.budget import Budget, Hold
from bridge.intake.terms import NoWitness, RefusedError, Witness

#: Has the keys of a place fetched; returns whether what is held now is what is there.
Fetch = Callable[[str], Awaitable[bool]]
#: Reads the body of a request, of at most so many bytes.
Read = Callable[[web.Request, int], Awaitable[bytes]]
#: Of bodies that are read whole before their signature is known to be good.
UNSETTLED_BYTES: Final = 2 << 20
_TWICE: Final = ""


class Gate:
    """Says who sends a request."""

    def __init__(
        self,
        keyring: Keyring,
        *,
        wall: Callable[[], float],
        fetch: Fetch | None = None,
        witness: Witness | None = None,
    ) -> None:
        """Take the keyring, the time in seconds since the epoch, who fetches keys, and who is told."""
        self.keyring = keyring
        self._wall = wall
        self._fetch = fetch
        self._witness = NoWitness() if witness is None else witness
        self._unsettled = Budget(UNSETTLED_BYTES)

    async def admit(
        self, request: web.Request, source: str | None = None, scheme: Scheme = "grafana"
    ) -> Grant | Signed | Denied:
        """Return who sends it; for a signed body, what its signature still needs.

        `source` is as what it sends, `scheme` how bodies are signed that are sent there.

        Raises:
            UndecidedError: The keys that it needs cannot be had for now.
        """
        shown = shown_by(request, source, scheme)
        answer = self.keyring.admit(shown, self._wall())
        if isinstance(answer, KeysNeeded):
            answer = await self._with_keys(answer, shown)
        self._tell(answer, shown.peer)
        return answer

    async def admit_whole(
        self, request: web.Request, scheme: Scheme, most_bytes: int, read: Read
    ) -> tuple[Grant, bytes] | None:
        """Return who signed it, and its body; None if nobody did whom we know, whatever else it shows.

        `read(request, most_bytes)` reads the body, and refuses one that is larger.

        Raises:
            UndecidedError: Too many such bodies are being read already, of all or of this peer.
        """
        signed = await self.admit(request, scheme=scheme)
        if not isinstance(signed, Signed):
            return None
        size = request.content_length
        hold = Hold(self._unsettled, peer_of(request))
        try:
            hold.grow(most_bytes if size is None else min(size, most_bytes))
            body = await read(request, most_bytes)
            who = self.settle(request, signed.settle(body))
        except RefusedError as error:
            raise UndecidedError("too much is being received") from error
        finally:
            hold.release()
        return None if isinstance(who, Denied) else (who, body)

    def settle(self, request: web.Request, answer: Grant | Denied) -> Grant | Denied:
        """Return what a signer may do, given what its signature said once the body was there (`Signed.settle`)."""
        peer = peer_of(request)
        if isinstance(answer, Grant):
            answer = self.keyring.placed(answer, peer)
        self._tell(answer, peer)
        return answer

    async def _with_keys(self, needed: KeysNeeded, shown: Shown) -> Grant | Signed | Denied:
        is_fresh = self._fetch is not None and await self._fetch(needed.place)
        answer = self.keyring.admit(shown, self._wall())
        if not isinstance(answer, KeysNeeded):
            return answer
        if is_fresh or self._fetch is None:
            return Denied(shape="jwt", why="the token is of a key that its issuer does not have")
        self._witness.undecided(needed.place)
        raise UndecidedError("the keys to verify the token with cannot be had")

    def _tell(self, answer: Grant | Signed | Denied, peer: str | None) -> None:
        if isinstance(answer, Grant):
            self._witness.let_in(answer)
        elif isinstance(answer, Denied) and peer is not None:  # or it is gone, and nobody knows who it was
            self._witness.turned_away(answer, peer)


def shown_by(request: web.Request, source: str | None, scheme: Scheme = "grafana") -> Shown:
    """Return what a request shows of its sender."""
    transport, headers = request.transport, request.headers

    def header(name: str) -> str | None:
        values = headers.getall(name, ())
        return values[0] if len(values) == 1 else None

    authorization = headers.get("Authorization")
    if authorization is not None and len(headers.getall("Authorization")) > 1:
        authorization = _TWICE
    return Shown(
        peer=peer_of(request),
        authorization=authorization,
        header=header,
        source=source,
        scheme=scheme,
        certificate=None if transport is None else transport.get_extra_info("peercert"),
    )


def peer_of(request: web.Request) -> str | None:
    """Return the address of the other end of the connection; None if it has none."""
    transport = request.transport
    peer = transport.get_extra_info("peername") if transport is not None else None
    return str(peer[0]) if isinstance(peer, tuple) else None
