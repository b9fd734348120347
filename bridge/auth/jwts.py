"""JSON Web Tokens of an issuer that is configured, verified by PyJWT.

Rules: the algorithms are pinned; without a shared secret only asymmetric ones are possible. A token must have `exp`,
`iss` and `aud`, from this issuer and for this audience. The keys of a set are chosen by `kid`, symmetric keys and keys
for encryption in a set are passed over, and where a key names its algorithm only that one counts. Nothing that a token
says of itself (`jku`, `x5u`, `jwk`) is looked at.

Decision: whether a token is too old is PyJWT's to say, by its own clock. The clock that `Keyring` is handed decides
only until when a good token need not be verified again, and that is never after its end.

Theory of operation. `Keys` is what a set holds now; whoever fetches it puts in what came. A token of a key that is not
there answers `KeysNeeded`, and who can wait asks again once the set was fetched. Sets are bounded, and so is a token:
it comes in a header.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jwt

from bridge.auth.terms import Denied, Grant, KeysNeeded, Verified
from bridge.errors import TocsinError

ASYMMETRIC = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
SYMMETRIC = ("HS256", "HS384", "HS512")
#: Keys of one set. The largest providers have some ten.
MAX_KEYS = 100
_WHY = {
    jwt.ExpiredSignatureError: "has expired",
    jwt.ImmatureSignatureError: "is not valid yet",
    jwt.InvalidIssuerError: "is of another issuer",
    jwt.InvalidAudienceError: "is for another audience",
    jwt.InvalidSignatureError: "has a signature of another key",
    jwt.MissingRequiredClaimError: "lacks exp, iss or aud",
}


class KeySetError(TocsinError):
    """What came is no set of keys; the message says why and repeats nothing of it."""


class Keys:
    """The keys of one set, as last read."""

    def __init__(self, place: str) -> None:
        """Take where the set is: an address or a file. It has no keys at first."""
        self.place = place
        self.is_read = False
        self._by_id: dict[str | None, tuple[Any, str | None]] = {}  # key and the only algorithm it is for
        self._entries: dict[str | None, Any] = {}

    def take(self, text: bytes) -> bool:
        """Replace what is held by the set in `text`; return whether anything changed.

        Raises:
            KeySetError: It is no set, or has no key that can be used. What was held stays.
        """
        try:
            entries = json.loads(text)["keys"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise KeySetError('it is no JSON of the form {"keys": [...]}') from error
        if not isinstance(entries, list) or len(entries) > MAX_KEYS:
            raise KeySetError(f"its `keys` are no list of at most {MAX_KEYS}")
        ours = {entry.get("kid"): entry for entry in entries if _is_ours(entry)}
        usable = {
            kid: (key, entry.get("alg")) for kid, entry in ours.items() if (key := _key(entry)) is not None
        }
        if not usable:
            raise KeySetError("it has no public key for signatures")
        changed = ours != self._entries
        self._by_id, self._entries, self.is_read = usable, ours, True
        return changed

    def drop(self) -> None:
        """Hold nothing: what was held is too old."""
        self._by_id, self._entries, self.is_read = {}, {}, False

    def find(self, kid: str | None, algorithm: str) -> Any:
        """Return the key of this id that `algorithm` may be used with; None if there is none.

        A token without an id is of the only key, if there is only one.
        """
        found = self._by_id.get(kid)
        if found is None and kid is None and len(self._by_id) == 1:
            [found] = self._by_id.values()
        if found is None:
            return None
        key, only = found
        return key if only in {None, algorithm} else None


class Issuer:
    """A `Verifier` of the tokens of one issuer."""

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        algorithms: Sequence[str],
        keys: Keys | None,
        secret: str | None,
        leeway_s: float,
        grant_of: Callable[[Mapping[str, Any]], Grant | None],
        tenants: Sequence[str] = (),
    ) -> None:
        """Take what is asked of a token.

        Args:
            issuer: What `iss` must be.
            audience: What `aud` must be or hold.
            algorithms: Those that are accepted.
            keys: The issuer's public keys; None where there is a secret.
            secret: What it signs with, for the HS algorithms only.
            leeway_s: How far the issuer's clock may be from ours.
            grant_of: What the claims of a verified token grant; None for nothing.
            tenants: For whom it may speak.
        """
        allowed = ASYMMETRIC if secret is None else SYMMETRIC
        if not algorithms or not set(algorithms) <= set(allowed):
            raise ValueError(f"algorithms must be of {', '.join(allowed)}")
        self.tenants = tuple(tenants)
        self._issuer = issuer
        self._audience = audience
        self._algorithms = tuple(algorithms)
        self._keys = keys
        self._secret = secret
        self._leeway_s = leeway_s
        self._grant_of = grant_of

    def verify(self, token: str) -> Verified | Denied | KeysNeeded:
        """Return what a token grants. Costs some 400 us."""
        try:
            key = self._key_of(token)
            if isinstance(key, KeysNeeded):
                return key
            claims = jwt.decode(
                token,
                key=key,
                algorithms=self._algorithms,
                issuer=self._issuer,
                audience=self._audience,
                leeway=self._leeway_s,
                options={"require": ["exp", "iss", "aud"], "enforce_minimum_key_length": True},
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            return Denied(shape="jwt", why=f"the token {_WHY.get(type(error), 'is none that is accepted')}")
        grant = self._grant_of(claims)
        if grant is None:
            return Denied(shape="jwt", why="the token's claims are nobody's")
        return Verified(grant=grant, until_s=float(claims["exp"]) + self._leeway_s)

    def _key_of(self, token: str) -> Any:
        header = jwt.get_unverified_header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self._algorithms:
            raise jwt.InvalidAlgorithmError
        if self._keys is None:
            return self._secret
        if self._issuer != jwt.decode(token, options={"verify_signature": False}).get("iss"):
            raise jwt.InvalidIssuerError  # or tokens of other issuers would have this one's keys fetched
        key = self._keys.find(kid, algorithm)
        if key is None and kid is None and self._keys.is_read:
            raise jwt.InvalidKeyError  # fetching the set again would not tell which key it is
        return KeysNeeded(place=self._keys.place) if key is None else key


def _is_ours(entry: object) -> bool:
    """Return whether an entry of a set is a public key for signatures."""
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("kid", ""), str)
        and entry.get("kty") in ("RSA", "EC", "OKP")
        and entry.get("use", "sig") == "sig"
        and entry.get("alg") in (None, *ASYMMETRIC)
    )


def _key(entry: dict[str, Any]) -> Any:
    try:
        return jwt.PyJWK(entry).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
