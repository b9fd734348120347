"""Who is asking: what a request shows to (tenant, role), without telling which part of it was wrong.

Rules: pure; the clock is an argument, but for that of PyJWT inside of a verifier. The configured secrets are kept as
digests only, so that no repr, dump or log of this room can show one. With nothing configured the machine itself is the
credential: loopback peers, tenant `default`, every role.

What is shown first decides: the header Authorization, else a signature, else the client's certificate. A wrong token
is not made good by a certificate. Where Slack and PagerDuty tell what people did, their signature decides and nothing
else does: whoever holds another credential, or sits at this machine, could say that anybody did anything.

Decision: what is presented is digested with a key that only this process knows, and the digest is looked up. Comparing
with every secret in turn, in constant time, costs as much as all the rest of a request once there are some hundred
credentials; looked up as it is, a secret would show by the time how much of it is right. Of a keyed digest nobody can
choose even one bit.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from bridge.auth.certificates import CertificateRule, CertificateRules
from bridge.auth.peers import is_loopback, is_within
from bridge.auth.signatures import Signed, Signer, Signers
from bridge.auth.terms import DEFAULT_TENANT, Denied, Grant, KeysNeeded, Shown, Verified, Verifier

Answer = Grant | Signed | KeysNeeded | Denied
#: Signed tokens that were found good and are remembered. An Alertmanager sends the same one for minutes.
REMEMBERED = 4096

_UNKNOWN = Denied(shape="none", why="nothing was shown")


class Keyring:
    """The credentials that are accepted."""

    def __init__(
        self,
        tokens: Iterable[tuple[str, Grant]] = (),
        *,
        passwords: Iterable[tuple[str, str, Grant]] = (),
        verifiers: Iterable[Verifier] = (),
        signers: Iterable[Signer] = (),
        certificates: Iterable[CertificateRule] = (),
        minted: Verifier | None = None,
        key: bytes = b"",
    ) -> None:
        """Take the credentials, secrets in clear.

        Args:
            tokens: Bearer tokens.
            passwords: User names and passwords.
            verifiers: Those who know signed tokens.
            signers: Secrets with which bodies are signed.
            certificates: Which client certificates are whose.
            minted: Who knows the tokens that Tocsin made itself; not counted among what is configured.
            key: 32 random bytes, new for each process.
        """
        self._key = key
        self._bearers = {self._digest("bearer", _bytes(token)): grant for token, grant in tokens}
        self._passwords = {
            self._digest("basic", _bytes(f"{name}:{password}")): grant for name, password, grant in passwords
        }
        configured = tuple(verifiers)
        self._verifiers = configured if minted is None else (minted, *configured)
        self._signers = Signers(signers)
        self._certificates = CertificateRules(certificates)
        self._remembered: dict[bytes, Verified] = {}
        #: Whether nothing is configured, so that this machine may do everything and nobody else anything.
        self.is_open = not (
            self._bearers or self._passwords or configured or self._signers.every or self._certificates.rules
        )
        known: Sequence[Grant] = (
            *self._bearers.values(),
            *self._passwords.values(),
            *(signer.grant for signer in self._signers.every),
            *(rule.grant for rule in self._certificates.rules),
        )
        named = {grant.tenant for grant in known} | {
            each for verifier in self._verifiers for each in getattr(verifier, "tenants", ())
        }
        #: How many tenants can be told apart.
        self.tenants = len(named) or 1

    def admit(self, shown: Shown, now_s: float) -> Answer:
        """Return what the caller may do, or what is needed to say it.

        `now_s` is the time in seconds since the epoch. Costs 3 to 6 us, and some 400 us for a signed token
        that was not seen before.
        """
        if shown.scheme != "grafana":
            told = self._signers.candidates(shown, now_s)
            return told or Denied(shape="none", why="no signature is shown, and nothing else counts here")
        if self.is_open:
            if is_loopback(shown.peer):
                return Grant(tenant=DEFAULT_TENANT, role="admin", shape="loopback", actor="loopback")
            return Denied(shape="none", why="no credentials are configured, and it is another machine")
        answer = self._recognised(shown, now_s)
        return self.placed(answer, shown.peer) if isinstance(answer, Grant) else answer

    def placed(self, grant: Grant, peer: str | None) -> Grant | Denied:
        """Return the grant if it may be used from where the caller is."""
        if is_within(peer, grant.allow_from):
            return grant
        return Denied(shape=grant.shape, why=f"{grant.actor or 'it'} may not come from this address")

    def forget(self) -> None:
        """Look at every signed token anew: keys have changed."""
        self._remembered.clear()

    def _recognised(self, shown: Shown, now_s: float) -> Answer:
        if shown.authorization is not None:
            return self._authorized(shown.authorization, now_s)
        if self._signers.every:
            signed = self._signers.candidates(shown, now_s)
            if signed is not None:
                return signed
        if shown.certificate:
            known = self._certificates.granted(shown.certificate)
            return known or Denied(shape="certificate", why="no credential is for this certificate")
        return _UNKNOWN

    def _authorized(self, authorization: str, now_s: float) -> Grant | KeysNeeded | Denied:
        scheme, _, rest = authorization.partition(" ")
        rest = rest.strip()
        if scheme.lower() == "basic":
            return self._by_password(rest)
        if scheme.lower() != "bearer":
            return Denied(
                shape="none", why="the header Authorization is neither Bearer nor Basic, or stands twice"
            )
        digest = self._digest("bearer", _bytes(rest))
        grant = self._bearers.get(digest)
        if grant is not None:
            return grant
        if not self._verifiers or rest.count(".") != 2:  # noqa: PLR2004 - header, claims and signature of a JWT
            return Denied(shape="token", why="the token is not known")
        return self._verified(rest, digest, now_s)

    def _by_password(self, encoded: str) -> Grant | Denied:
        try:
            shown = base64.b64decode(_bytes(encoded), validate=True)
        except binascii.Error:
            return Denied(shape="password", why="the user and password are not base64")
        grant = self._passwords.get(self._digest("basic", shown))
        return grant or Denied(shape="password", why="the user or the password is not known")

    def _verified(self, token: str, digest: bytes, now_s: float) -> Grant | KeysNeeded | Denied:
        known = self._remembered.get(digest)
        if known is not None and now_s < known.until_s:
            return known.grant
        missing: KeysNeeded | None = None
        denied = Denied(shape="jwt", why="no issuer is configured")
        for verifier in self._verifiers:
            answer = verifier.verify(token)
            if isinstance(answer, Verified):
                self._remember(digest, answer)
                return answer.grant
            if isinstance(answer, KeysNeeded):
                missing = answer
            else:
                denied = answer
        return missing or denied

    def _remember(self, digest: bytes, verified: Verified) -> None:
        if len(self._remembered) >= REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = verified

    def _digest(self, what: str, secret: bytes) -> bytes:
        return blake2b(secret, digest_size=32, key=self._key, person=what.encode()).digest()


def _bytes(text: str) -> bytes:
    # aiohttp hands on bytes that are not UTF-8 as surrogates.
    return text.encode("utf-8", "surrogateescape")
