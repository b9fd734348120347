"""Credentials and TLS of a running sidecar."""

from __future__ import annotations

import hmac
import json
import os
import ssl
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import make_certificate
from sidecars import NO_MODELS, Sidecar, until, webhook
from signing import AUDIENCE, ISSUER, SECRET, key_pair, key_set, signature, token

from bridge.auth import SIGNATURE_HEADER, SLACK_SIGNATURE, SLACK_TIMESTAMP, TIMESTAMP_HEADER

TENANTS = """
tenants:
  - name: acme
    tokens: [{{token: acme-admin-0123456789, role: admin}}, {{token: acme-eu-0123456789, source: eu}}]
    passwords: [{{username: am, password: "{password}"}}]
    signatures: [{{secret: {secret}, source: grafana}}, {{secret: slack-secret-0123456789, scheme: slack}}]
    jwt: [{{issuer: {issuer}, audience: {audience}, jwks_file: {jwks}, claims: {{sub: robot}}, role: viewer}}]
  - name: other
    tokens: [{{token: other-admin-0123456789, role: admin}}]
"""
ADMIN = {"Authorization": "Bearer acme-admin-0123456789"}
AM_FIRST = {"Authorization": "Basic YW06Zmlyc3Q="}  # am:first
AM_SECOND = {"Authorization": "Basic YW06c2Vjb25k"}  # am:second


SLACK_SECRET = "slack-secret-0123456789"
#: A button of an incident that never was.
PRESS = b"payload=%7B%22type%22%3A%22block_actions%22%2C%22actions%22%3A%5B%7B%22action_id%22%3A%22tocsin_ack%22%7D%5D%7D"


def pressed(at: str, secret: str = SLACK_SECRET) -> dict[str, str]:
    signed = hmac.new(secret.encode(), f"v0:{at}:".encode() + PRESS, "sha256").hexdigest()
    return {SLACK_SIGNATURE: f"v0={signed}", SLACK_TIMESTAMP: at}


def configured(folder: Path, password: str) -> str:
    jwks = folder / "issuer.jwks"
    jwks.write_bytes(key_set(key_pair("ES256", "one")))
    return NO_MODELS + TENANTS.format(
        password=password, secret=SECRET, issuer=ISSUER, audience=AUDIENCE, jwks=json.dumps(str(jwks))
    )


def test_each_credential_does_what_it_may_and_a_rotated_one_does_not(
    make: Callable[..., Sidecar], tmp_path: Path
):
    sidecar = make(configuration=configured(tmp_path, "first"))
    sidecar.start()
    body, at = webhook("Here"), f"{time.time():.0f}"
    eu = {"Authorization": "Bearer acme-eu-0123456789"}
    signed = {SIGNATURE_HEADER: signature(body, at), TIMESTAMP_HEADER: at}
    robot = {"Authorization": f"Bearer {token(key_pair('ES256', 'one'))}"}
    stranger = {"Authorization": f"Bearer {token(key_pair('ES256', 'two'))}"}

    def send(source: str, headers: dict[str, str]) -> int:
        return sidecar.ask("POST", f"/v1/alertmanager/{source}", body, headers)[0]

    assert [send("eu", eu), send("us", eu), send("eu", {}), send("eu", AM_FIRST)] == [200, 403, 401, 200]
    assert [send("grafana", signed), send("eu", signed), send("eu", robot), send("eu", stranger)] == [
        200, 401, 403, 401,
    ]  # fmt: skip
    assert sidecar.ask("PUT", "/v1/grafana/grafana", body, signed)[0] == 200
    assert sidecar.ask("POST", "/v1/slack", PRESS, pressed(at))[0] == 404, (
        "believed, and there is no such incident"
    )
    assert sidecar.ask("POST", "/v1/slack", PRESS, pressed(at, "another-secret-0123456"))[0] == 401
    assert send("grafana", pressed(at)) == 401
    assert sidecar.ask("GET", "/api/v1/incidents", headers=robot)[0] == 200
    assert sidecar.ask("GET", "/api/v1/incidents", headers=stranger)[0] == 401
    assert sidecar.ask("POST", "/-/reload", b"", robot)[0] == 403
    others = {"Authorization": "Bearer other-admin-0123456789"}
    assert sidecar.ask("POST", "/-/reload", b"", others)[0] == 403, "the file is the first tenant's"
    assert json.loads(sidecar.ask("GET", "/openapi.json")[1])["openapi"].startswith("3.1.")
    sidecar.file.write_text(configured(tmp_path, "second"), "utf-8")
    assert sidecar.ask("POST", "/-/reload", b"", ADMIN)[0] == 200
    assert [send("eu", AM_FIRST), send("eu", AM_SECOND)] == [401, 200]
    assert sidecar.metric('tocsin_admissions_total{result="accepted",shape="password"}') == 2
    log = sidecar.log.read_text("utf-8")
    assert not any(secret in log for secret in (SECRET, "acme-eu", "YW06", robot["Authorization"][7:40]))
    assert sidecar.logged("turned_away")
    assert not sidecar.logged("open_to_loopback")


def test_one_provider_logs_in_the_people_of_all_tenants(make: Callable[..., Sidecar], tmp_path: Path):
    jwks = tmp_path / "issuer.jwks"
    jwks.write_bytes(key_set(key_pair("ES256", "one")))
    text = f"""
tenants: [{{name: acme, tokens: [{{token: acme-sender-0123456789}}]}}, {{name: other}}]
logins:
  - {{issuer: {ISSUER}, audience: {AUDIENCE}, jwks_file: {json.dumps(str(jwks))}, tenant_claim: org, role_claim: groups,
      roles: {{readers: viewer, sre: admin}}}}
"""
    sidecar = make(configuration=NO_MODELS + text)
    sidecar.start()

    def of(**claims: object) -> dict[str, str]:
        return {"Authorization": f"Bearer {token(key_pair('ES256', 'one'), **claims)}"}

    def status(method: str, path: str, headers: dict[str, str]) -> int:
        return sidecar.ask(method, path, b"" if method == "POST" else None, headers)[0]

    reader, admin = of(org="acme", groups=["readers"]), of(org="acme", groups=["staff", "sre"])
    others = of(org="other", groups="sre")
    assert [status("GET", "/api/v1/incidents", each) for each in (reader, admin, others)] == [200, 200, 200]
    assert [status("POST", "/-/reload", each) for each in (reader, admin, others)] == [403, 200, 403]
    for nobody in (of(), of(org="nobody", groups="sre"), of(org="acme", groups="staff")):
        assert status("GET", "/api/v1/incidents", nobody) == 401
    [entry] = json.loads(sidecar.ask("GET", "/api/v1/audit", headers=admin)[1])["items"]
    assert (entry["action"], entry["role"]) == ("reload", "admin")


def test_without_credentials_that_is_said_loudly(make: Callable[..., Sidecar]):
    sidecar = make()
    sidecar.start()
    [line] = sidecar.logged("open_to_loopback")
    assert line["level"] == "warning"


def test_a_sidecar_listens_with_tls_and_takes_over_a_new_certificate(
    make: Callable[..., Sidecar], tmp_path: Path
):
    certificate, key = make_certificate(tmp_path)
    clients = make_certificate(tmp_path, "clients", "DNS:am.example.com")
    text = f"""
tls: {{cert_file: "{certificate}", key_file: "{key}", client_ca_file: "{clients[0]}"}}
tenants:
  - name: acme
    tokens: [{{token: acme-admin-0123456789, role: admin}}]
    certificates: [{{san: am.example.com}}]
"""
    sidecar = make(configuration=NO_MODELS + text)
    sidecar.trust = ssl.create_default_context(cafile=str(certificate))
    sidecar.trust.load_cert_chain(*clients)
    sidecar.start()
    assert sidecar.ask("POST", "/v1/alertmanager", webhook("Here"))[0] == 200
    assert sidecar.ask("GET", "/api/v1/incidents")[0] == 403
    sidecar.trust = ssl.create_default_context(cafile=str(certificate))
    assert sidecar.ask("POST", "/v1/alertmanager", webhook("Here"))[0] == 401
    make_certificate(tmp_path)
    os.utime(certificate, ns=(1, certificate.stat().st_mtime_ns + 1_000_000_000))
    until(lambda: sidecar.logged("certificate_changed"), "the new certificate")
    with pytest.raises(urllib.error.URLError):
        sidecar.ask("GET", "/-/ready")
    sidecar.trust = ssl.create_default_context(cafile=str(certificate))
    assert sidecar.ask("GET", "/-/ready")[0] == 200
    sidecar.file.write_text(
        NO_MODELS + text.replace("tls:", "#tls:").replace("    certificates:", "#"), "utf-8"
    )
    status, answer = sidecar.ask("POST", "/-/reload", b"", ADMIN)
    assert (status, "restart: tls" in answer) == (200, True)
    assert sidecar.ask("GET", "/-/ready")[0] == 200
