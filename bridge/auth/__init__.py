"""Who is asking: bearer tokens, passwords, signed tokens, signatures and certificates to (tenant, role).

Rules: pure, and security code is not written here: PyJWT verifies signed tokens, `hmac` and `hashlib` digest, TLS
verifies certificates before their names come here. No secret is in a repr, and neither time nor answer tells a caller
which part was wrong.

`terms` has the words, `keyring` decides, `claims`, `signatures`, `certificates` and `peers` know one thing each. `jwts`
is not imported with the others: with `cryptography` it costs 10 MB and a tenth of a second, and most need no signed
tokens.
"""

from __future__ import annotations

from bridge.auth.certificates import ATTRIBUTES, CertificateRule
from bridge.auth.claims import GrantOf, claimed, said
from bridge.auth.keyring import Answer, Keyring
from bridge.auth.peers import is_foreign, is_loopback, is_within
from bridge.auth.signatures import (
    PAGERDUTY_SIGNATURE,
    SIGNATURE_HEADER,
    SLACK_SIGNATURE,
    SLACK_TIMESTAMP,
    TIMESTAMP_HEADER,
    Scheme,
    Signed,
    Signer,
)
from bridge.auth.terms import (
    DEFAULT_TENANT,
    ROLE_RANK,
    Denied,
    Grant,
    KeysNeeded,
    Networks,
    Role,
    Shape,
    Shown,
    Verified,
    Verifier,
)

__all__ = [
    "ATTRIBUTES",
    "DEFAULT_TENANT",
    "PAGERDUTY_SIGNATURE",
    "ROLE_RANK",
    "SIGNATURE_HEADER",
    "SLACK_SIGNATURE",
    "SLACK_TIMESTAMP",
    "TIMESTAMP_HEADER",
    "Answer",
    "CertificateRule",
    "Denied",
    "Grant",
    "GrantOf",
    "Keyring",
    "KeysNeeded",
    "Networks",
    "Role",
    "Scheme",
    "Shape",
    "Shown",
    "Signed",
    "Signer",
    "Verified",
    "Verifier",
    "claimed",
    "is_foreign",
    "is_loopback",
    "is_within",
    "said",
]
