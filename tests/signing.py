"""Keys and tokens of a token issuer for the tests."""

from __future__ import annotations

import functools
import hmac
import json
import time
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER = "https://login.example.com"
AUDIENCE = "tocsin"
SECRET = "grafana-secret-0123456789"


class KeyPair(NamedTuple):
    """A private key, its algorithm and id, and the public key as an entry of a set."""

    private: Any
    algorithm: str
    kid: str
    public: dict[str, Any]


@functools.cache
def key_pair(algorithm: str, kid: str) -> KeyPair:
    """Return a key of one algorithm; the same one for the same id."""
    if algorithm.startswith(("RS", "PS")):
        private: Any = rsa.generate_private_key(65537, 2048)
    elif algorithm == "EdDSA":
        private = ed25519.Ed25519PrivateKey.generate()
    else:
        curve = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}[algorithm]
        private = ec.generate_private_key(curve())
    kind = jwt.get_algorithm_by_name(algorithm)
    public = json.loads(kind.to_jwk(private.public_key())) | {"kid": kid, "use": "sig", "alg": algorithm}
    return KeyPair(private, algorithm, kid, public)


def key_set(*pairs: KeyPair) -> bytes:
    """Return a set of public keys as an issuer shows it."""
    return json.dumps({"keys": [pair.public for pair in pairs]}).encode()


def token(pair: KeyPair, *, lasts_s: float = 600, **claims: Any) -> str:
    """Return a token that `pair` signed; a claim that is None, or an id that is empty, is left out."""
    said = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time() + lasts_s), "sub": "robot"} | claims
    said = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(said, pair.private, pair.algorithm, headers={"kid": pair.kid} if pair.kid else None)


def signature(body: bytes, timestamp: str, secret: str = SECRET) -> str:
    """Return what Grafana puts into its header for a body."""
    return hmac.new(secret.encode(), timestamp.encode() + b":" + body, "sha256").hexdigest()
