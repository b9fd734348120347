"""What it costs to know who sends, as a share of what one webhook costs the intake, both measured in one run.

Rounds alternate: wrk loads Tocsin's intake without credentials (`cpu us` of the server for one webhook of 10 alerts),
then this process puts each kind of credential before a keyring and takes its processor time. A keyring has one tenant
or 300, each with every kind of credential; what is shown is the last tenant's. Signed tokens are shown in two ways: the
same one again, as an Alertmanager does for minutes, and one that was never seen, which has to be verified.

    python benchmarks/admission.py [--rounds 5] [--seconds 1] [--data DIR]

Good is less than 10 % for everything that comes with each webhook; exits 1 otherwise. A token that is verified anew is
shown beside it and not judged: it comes once in the life of a token.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from intake import (
    SCRIPT,
    TOCSIN,
    command_of,
    environment,
    free_port,
    needed,
    running,
    visit,
    webhook,
    write_bodies,
)

from bridge.auth import (
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    CertificateRule,
    Grant,
    Keyring,
    Shown,
    Signed,
    Signer,
)
from bridge.auth.jwts import Issuer, Keys

ALERTS = 10
LIMIT = 0.10
REPEATS = 2000
PEER = "192.0.2.1"
NETWORKS = (("192.0.2.0/24",),)
ONCE = "a signed token seen for the first time"


class Credentials:
    """A keyring of some tenants, and what the last of them shows."""

    def __init__(self, tenants: int, body: bytes) -> None:
        names = [f"tenant-{number}" for number in range(tenants)]
        private, rsa_key = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
        keys = Keys("here")
        public = jwt.get_algorithm_by_name("ES256").to_jwk(private.public_key(), as_dict=True) | {"kid": "ec"}
        other = jwt.get_algorithm_by_name("RS256").to_jwk(rsa_key.public_key(), as_dict=True) | {"kid": "rsa"}
        keys.take(repr({"keys": [public, other]}).replace("'", '"').encode())
        last = names[-1]
        self.body = body
        self.ring = Keyring(
            ((f"token-of-{name}-0123456789", grant(name)) for name in names),
            passwords=((name, "password-0123456789", grant(name)) for name in names),
            verifiers=[issuer(keys, last)],
            signers=[Signer(f"secret-of-{name}-0123".encode(), grant(name, source=name)) for name in names],
            certificates=[CertificateRule(grant=grant(name), san=f"{name}.example.com") for name in names],
            key=b"k" * 32,
        )
        self.tokens = {
            "ES256": lambda number: signed(private, "ES256", "ec", number),
            "RS256": lambda number: signed(rsa_key, "RS256", "rsa", number),
        }
        at = f"{time.time():.0f}"
        digest = hmac.new(f"secret-of-{last}-0123".encode(), at.encode() + b":" + body, "sha256").hexdigest()
        headers = {SIGNATURE_HEADER: digest, TIMESTAMP_HEADER: at}
        basic = base64.b64encode(f"{last}:password-0123456789".encode()).decode()
        certificate = {
            "subjectAltName": (("DNS", f"{last}.example.com"),),
            "subject": ((("commonName", last),),),
        }
        token = self.tokens["ES256"](0)
        self.shown: dict[str, Callable[[], Shown]] = {
            "bearer token": lambda: Shown(peer=PEER, authorization=f"Bearer token-of-{last}-0123456789"),
            "user and password": lambda: Shown(peer=PEER, authorization=f"Basic {basic}"),
            "a signed token seen before": lambda: Shown(peer=PEER, authorization=f"Bearer {token}"),
            "signature of the body": lambda: Shown(peer=PEER, header=headers.get, source=last),
            "client certificate": lambda: Shown(peer=PEER, certificate=certificate),
        }

    def admit_us(self, kind: str) -> float:
        """Return the microseconds of one admission."""
        made, now_s = self.shown[kind], time.time()
        self.admit(made(), now_s)
        started = time.process_time()
        for _ in range(REPEATS):
            self.admit(made(), now_s)
        return (time.process_time() - started) / REPEATS * 1e6

    def first_us(self, algorithm: str, number: int) -> float:
        """Return the microseconds of verifying a token anew."""
        tokens = [self.tokens[algorithm](number * 1000 + each) for each in range(20)]
        started = time.process_time()
        for token in tokens:
            self.admit(Shown(peer=PEER, authorization=f"Bearer {token}"), time.time())
        return (time.process_time() - started) / len(tokens) * 1e6

    def admit(self, shown: Shown, now_s: float) -> None:
        """Let one in, or end."""
        answer = self.ring.admit(shown, now_s)
        if isinstance(answer, Signed):
            answer = answer.settle(self.body)
            answer = self.ring.placed(answer, shown.peer) if isinstance(answer, Grant) else answer
        if not isinstance(answer, Grant):
            sys.exit(f"was not let in: {answer}")


def grant(tenant: str, source: str | None = None) -> Grant:
    return Grant(tenant=tenant, role="sender", source=source, allow_from=NETWORKS)


def issuer(keys: Keys, tenant: str) -> Issuer:
    return Issuer(
        issuer="https://login.example.com", audience="tocsin", algorithms=("ES256", "RS256"), keys=keys, secret=None,
        leeway_s=30.0, grant_of=lambda _claims: grant(tenant),
    )  # fmt: skip


def signed(private: object, algorithm: str, kid: str, number: int) -> str:
    claims = {
        "iss": "https://login.example.com", "aud": "tocsin", "exp": int(time.time()) + 600, "jti": str(number),
    }  # fmt: skip
    return jwt.encode(claims, private, algorithm, headers={"kid": kid})  # type: ignore[arg-type]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=1.0)
    arguments.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()))
    given = arguments.parse_args()
    needed("wrk", "wrk")
    few, many = Credentials(1, webhook(ALERTS, 0)), Credentials(300, webhook(ALERTS, 0))
    with (
        tempfile.TemporaryDirectory(dir=given.data, prefix="tocsin-") as folder,
        tempfile.TemporaryDirectory() as other,
    ):
        work, port = Path(other), free_port()
        size = write_bodies(work / "bodies", ALERTS)
        (work / "wrk.lua").write_text(SCRIPT)
        command = command_of(TOCSIN, Path(folder), port, whole=False)
        costs: dict[str, list[float]] = {}
        with running(TOCSIN, command, port, environment(work, 0), work / "log") as server:
            for number in range(given.rounds + 1):
                seen = visit(server, work / "bodies", work / "wrk.lua", given.seconds)
                found = {"webhook": seen.cpu_us}
                for tenants, credentials in ((1, few), (300, many)):
                    found |= {f"{kind}|{tenants}": credentials.admit_us(kind) for kind in credentials.shown}
                for algorithm in few.tokens:
                    found[f"{ONCE}, {algorithm}|1"] = few.first_us(algorithm, number)
                if number:  # the first round warms up
                    for name, cost_us in found.items():
                        costs.setdefault(name, []).append(cost_us)
    sys.exit(print_table(costs, size))


def print_table(costs: dict[str, list[float]], size: int) -> int:
    """Print what each costs; return 1 if one costs too much."""
    webhook_us = statistics.median(costs["webhook"])
    print(
        f"\n  a webhook of {ALERTS} alerts ({size:,} bytes): {webhook_us:.0f} us of the intake's processor time"
    )
    print(f"\n  {'':44}{'tenants':>8}{'us':>9}{'% of a webhook':>16}")
    worst = 0.0
    for name, found in costs.items():
        if name == "webhook":
            continue
        kind, _, tenants = name.partition("|")
        share = statistics.median(cost / whole for cost, whole in zip(found, costs["webhook"], strict=True))
        worst = worst if kind.startswith(ONCE) else max(worst, share)
        print(f"  {kind:44}{tenants:>8}{statistics.median(found):9.1f}{100 * share:16.1f}")
    print(
        f"\n  the dearest that comes with each webhook: {100 * worst:.1f} % (good: below {100 * LIMIT:.0f})"
    )
    return int(worst >= LIMIT)


if __name__ == "__main__":
    main()
