"""What a configuration may say of who gets in: credentials of each kind, and TLS.

Rules: those of `models`. A credential belongs to the tenant that it stands under. Each kind is a list, so that a new
secret can stand beside the old one until every sender has it.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from bridge.auth import SIGNATURE_HEADER, TIMESTAMP_HEADER, Scheme
from bridge.config.quotas import QuotasEntry
from bridge.config.redacting import RedactMore
from bridge.config.values import (
    Duration,
    HeaderName,
    KeySet,
    LongerDuration,
    Name,
    Network,
    Password,
    PasswordFile,
    Section,
    Token,
    TokenFile,
    attributes,
    certificates,
    keys_url,
    readable,
    user,
)

Role = Literal["sender", "viewer", "responder", "admin"]
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384",
    "HS512",
]  # fmt: skip
#: Bytes that a shared secret must have at least, by the algorithm.
LEAST_SECRET = {"HS256": 32, "HS384": 48, "HS512": 64}

_Text = Annotated[str, Field(min_length=1)]


class Bound(Section):
    """From where, and as what, a credential may be used."""

    source: Name | None = Field(
        default=None, description="The only source it may send as; null for all of the tenant's."
    )
    allow_from: list[Network] = Field(
        default=[],
        description="Networks it may come from, beside those of the tenant; none: from everywhere.",
    )


class Credential(Bound):
    """What nearly every credential has."""

    role: Role = Field(
        default="sender",
        description="sender sends webhooks only; viewer reads; responder also acts; admin also reloads.",
    )

    @model_validator(mode="after")
    def _only_senders_are_bound(self) -> Self:
        if self.source is not None and self.role != "sender":
            raise ValueError("a source binds who sends; leave `source` out, or take the role sender")
        return self


class TokenEntry(Credential):
    """One token and what it may do."""

    token: Token | None = Field(
        default=None,
        description="Bearer token of 16 characters or more; or token_file, the path of a file with it.",
    )
    token_file: TokenFile | None = Field(
        default=None, description="File that holds the token, instead of `token`."
    )

    @model_validator(mode="after")
    def _one_of_the_twins(self) -> Self:
        if (self.token is None) is (self.token_file is None):
            raise ValueError("give exactly one of token and token_file")
        return self

    @property
    def secret(self) -> SecretStr:
        """The token, wherever it was given."""
        return self.token or self.token_file or SecretStr("")


class PasswordEntry(Credential):
    """One user with a password (HTTP's basic authentication)."""

    username: Annotated[str, Field(min_length=1), AfterValidator(user)] = Field(
        description="User name, without a colon."
    )
    password: Password | None = Field(
        default=None, description="Its password; or password_file, the path of a file with it."
    )
    password_file: PasswordFile | None = Field(
        default=None, description="File that holds this password, instead of `password`."
    )

    @model_validator(mode="after")
    def _one_of_the_twins(self) -> Self:
        if (self.password is None) is (self.password_file is None):
            raise ValueError("give exactly one of password and password_file")
        return self

    @property
    def secret(self) -> SecretStr:
        """The password, wherever it was given."""
        return self.password or self.password_file or SecretStr("")


class Issuing(Section):
    """Whose signed tokens (JWT) are believed."""

    issuer: _Text = Field(description="What the claim `iss` must be.")
    audience: _Text = Field(description="What the claim `aud` must be, or hold.")
    jwks_url: Annotated[str, AfterValidator(keys_url)] | None = Field(
        default=None,
        description="Where the issuer's public keys are, read every 5m and when a token names a new one.",
    )
    jwks_file: KeySet | None = Field(
        default=None, description="A file with these keys, read at start and reload, instead of `jwks_url`."
    )
    ca_file: Annotated[str, AfterValidator(certificates)] = Field(
        default="",
        description="PEM file of the authorities that `jwks_url` is trusted by; empty for the system's.",
    )
    secret: Token | None = Field(
        default=None,
        description="A secret shared with the issuer, instead of public keys (HS algorithms only, 32 characters or "
        "more); or secret_file, the path of a file with it.",
    )
    secret_file: TokenFile | None = Field(
        default=None, description="File that holds this shared secret, instead of `secret`."
    )
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] | None = Field(
        default=None,
        description="Signature algorithms that are accepted; null for RS256, ES256 and EdDSA, with a secret for HS256.",
    )
    leeway_s: Duration = Field(
        default=30.0, alias="leeway", description="How far the issuer's clock may be from this one."
    )

    @model_validator(mode="after")
    def _one_way_to_verify(self) -> Self:
        given = [self.jwks_url, self.jwks_file, self.secret, self.secret_file]
        if sum(each is not None for each in given) != 1:
            raise ValueError("give exactly one of jwks_url, jwks_file, secret and secret_file")
        for algorithm in self.accepted:
            least = LEAST_SECRET.get(algorithm)
            if (least is None) is not (self.shared is None):
                raise ValueError(
                    "algorithms: HS256, HS384 and HS512 are for a secret, the others for public keys"
                )
            if least is not None and self.shared is not None and len(self.shared.get_secret_value()) < least:
                raise ValueError(f"the secret must have at least {least} characters for {algorithm}")
        return self

    @property
    def shared(self) -> SecretStr | None:
        """The shared secret, wherever it was given."""
        return self.secret or self.secret_file

    @property
    def accepted(self) -> tuple[str, ...]:
        """The algorithms that are accepted."""
        if self.algorithms is not None:
            return tuple(self.algorithms)
        return ("RS256", "ES256", "EdDSA") if self.shared is None else ("HS256",)


class JwtEntry(Issuing, Credential):
    """Signed tokens (JWT) of one issuer, as Alertmanager's `oauth2` gets them."""

    claims: dict[_Text, str] = Field(
        default={}, description="Claims that a token must have beside these, such as its `sub` or `azp`."
    )


class LoginEntry(Issuing):
    """Signed tokens (JWT) of one issuer that say themselves for which tenant, and as what."""

    tenant_claim: _Text = Field(
        default="tenant",
        description="Claim with the tenant's name; a list counts with the only one that there is.",
    )
    role_claim: _Text = Field(
        default="role", description="Claim with what may be done; of a list the highest counts."
    )
    roles: Annotated[dict[_Text, Role], Field(min_length=1)] = Field(
        default={"viewer": "viewer", "responder": "responder", "admin": "admin"},
        description="Values of that claim, such as groups, and the roles that they stand for.",
    )
    allow_from: list[Network] = Field(
        default=[],
        description="Networks that these may come from, beside those of the tenant; none: from everywhere.",
    )


class SignatureEntry(Bound):
    """A secret with which what comes in is signed (HMAC-SHA256): by Grafana, by Slack, by PagerDuty."""

    secret: Token | None = Field(
        default=None,
        description="The signing secret, 16 characters or more; or secret_file, the path of a file with it.",
    )
    secret_file: TokenFile | None = Field(
        default=None, description="File that holds the signing secret, instead of `secret`."
    )
    header: HeaderName = Field(default=SIGNATURE_HEADER, description="Header with the signature.")
    timestamp_header: HeaderName = Field(
        default=TIMESTAMP_HEADER,
        description="Header with the time of signing; it must be named in Grafana's contact point, too.",
    )
    max_age_s: LongerDuration = Field(
        default=300.0, alias="max_age", description="How far that time may be from now, either way."
    )
    scheme: Scheme = Field(
        default="grafana",
        description="grafana sends webhooks; slack and pagerduty tell what people do there, as responders.",
    )

    @model_validator(mode="after")
    def _one_of_the_twins(self) -> Self:
        if (self.secret is None) is (self.secret_file is None):
            raise ValueError("give exactly one of secret and secret_file")
        return self

    @model_validator(mode="after")
    def _as_the_scheme_has_it(self) -> Self:
        fixed = {"source", "header", "timestamp_header"} & self.model_fields_set
        if self.scheme != "grafana" and fixed:
            raise ValueError(f"{min(fixed)} is for the scheme grafana; leave it out")
        return self

    @property
    def role(self) -> Role:
        """What its holder may do."""
        return "sender" if self.scheme == "grafana" else "responder"

    @property
    def shared(self) -> SecretStr:
        """The secret, wherever it was given."""
        return self.secret or self.secret_file or SecretStr("")


class CertificateEntry(Credential):
    """Client certificates by their names; `tls.client_ca_file` says who may issue them."""

    san: _Text | None = Field(
        default=None,
        description="A subject alternative name that it has: a host, address, e-mail address or URI.",
    )
    subject: Annotated[dict[str, str], AfterValidator(attributes)] = Field(
        default={}, description="Attributes that its subject has, such as CN and O."
    )

    @model_validator(mode="after")
    def _by_some_name(self) -> Self:
        if self.san is None and not self.subject:
            raise ValueError("give san, subject or both; without them it would be every certificate")
        return self


class TenantRetention(Section):
    """For how long things of one tenant are kept, where that is not as long as others'."""

    history_s: LongerDuration | None = Field(
        default=None, alias="history", description="Alerts as they were understood."
    )
    incidents_s: LongerDuration | None = Field(
        default=None,
        alias="incidents",
        description="Incidents, after they were closed, and what was learned.",
    )
    quarantine_s: LongerDuration | None = Field(
        default=None, alias="quarantine", description="What of it could not be used."
    )


class Tenant(Section):
    """One owner of alerts, kept apart from all others."""

    name: Name = Field(description="Name of the tenant.")
    tokens: list[TokenEntry] = Field(
        default=[], description="Who may speak for it; with no tokens at all only this machine may."
    )
    passwords: list[PasswordEntry] = Field(default=[], description="The same by user and password.")
    jwt: list[JwtEntry] = Field(default=[], description="The same by tokens that an issuer signed.")
    signatures: list[SignatureEntry] = Field(
        default=[], description="Who may send or act for it by signing what it sends."
    )
    certificates: list[CertificateEntry] = Field(
        default=[], description="The same as tokens by client certificate."
    )
    allow_from: list[Network] = Field(
        default=[], description="Networks that all of these may come from; none: from everywhere."
    )
    redact: RedactMore = Field(
        default=RedactMore(), description="What is taken out of its alerts beside what is taken out of all."
    )

    retention: TenantRetention = Field(
        default=TenantRetention(),
        description="For how long its own things are kept; null: as `retention` says.",
    )
    quotas: QuotasEntry = Field(default=QuotasEntry(), description=str(QuotasEntry.__doc__))

    @property
    def has_credentials(self) -> bool:
        """Whether anybody can speak for it."""
        return bool(self.tokens or self.passwords or self.jwt or self.signatures or self.certificates)


class Tls(Section):
    """Listening with TLS; changed files are taken over without a restart."""

    cert_file: Annotated[str, AfterValidator(readable)] | None = Field(
        default=None, description="PEM file of Tocsin's own certificate and those above it; null for no TLS."
    )
    key_file: Annotated[str, AfterValidator(readable)] | None = Field(
        default=None, description="PEM file of its private key, not encrypted."
    )
    client_ca_file: Annotated[str, AfterValidator(certificates)] = Field(
        default="",
        description="PEM file of the authorities that client certificates are trusted by; empty: none is asked for.",
    )
    require_client_certificate: bool = Field(
        default=False,
        description="true: without a client certificate there is no connection, not even to /metrics.",
    )

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.cert_file is None) is not (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        if self.cert_file is None and (self.client_ca_file or self.require_client_certificate):
            raise ValueError("client certificates need TLS; write cert_file and key_file")
        if self.require_client_certificate and not self.client_ca_file:
            raise ValueError("require_client_certificate needs client_ca_file")
        return self
