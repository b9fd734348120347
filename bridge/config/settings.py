"""What the rest of Tocsin is told: everything configured, checked, with defaults, units in the names.

Rule: frozen, and free of places and YAML. Tokens are `SecretStr`, so that no repr shows them; `analysis`
holds no secret and goes through the inbox.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, SecretStr

from bridge.analysis.settings import AnalysisSettings
from bridge.analysis.topology import Chart
from bridge.auth import Scheme
from bridge.config.credentials import Role
from bridge.config.models import LogLevel
from bridge.ports import Caps
from bridge.redaction import Redact


class DestinationKind(Protocol):
    """What a configuration must know of a destination kind: its block's model, and what usually holds for it.

    The model has a method `faults(data_dir)`: by key, what is wrong beside a store in that directory. A kind that
    cannot be used has a text `lacks` that says what to do; no block of it is good.
    """

    Settings: ClassVar[type[Any]]
    caps: Caps


#: Of a destination that is told all that was kept.
NOTHING_MORE = Redact(secrets="keep")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What every credential grants, and from where."""

    tenant: str
    role: Role
    source: str | None = None  # the only one it may send as
    allow_from: tuple[tuple[str, ...], ...] = ()  # networks: the peer must be in one of each group
    actor: str = ""  # who that is, for log and audit


@dataclass(frozen=True, slots=True, kw_only=True)
class Token(Credential):
    """A bearer token and what it may do."""

    secret: SecretStr


@dataclass(frozen=True, slots=True, kw_only=True)
class Password(Credential):
    """A user with a password."""

    username: str
    secret: SecretStr


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """How tokens of one issuer are verified; it has one of `jwks_url`, `jwks` and `secret`."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    leeway_s: float
    jwks_url: str | None
    ca_file: str  # "": the system's authorities
    jwks: str | None  # the text of a set of keys
    secret: SecretStr | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Jwt(Credential):
    """Signed tokens of one issuer that have these claims."""

    issued: Issued
    claims: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Signed tokens of one issuer whose claims say for which tenant, and as what."""

    issued: Issued
    tenant_claim: str
    role_claim: str
    roles: dict[str, Role]  # by value of the claim
    tenants: dict[
        str, tuple[tuple[str, ...], ...]
    ]  # those that there are, each with the networks to come from
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature(Credential):
    """A secret with which a sender signs what it sends."""

    secret: SecretStr
    header: str
    timestamp_header: str
    max_age_s: float
    scheme: Scheme = "grafana"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate(Credential):
    """Client certificates by their names."""

    san: str | None
    subject: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who gets in. None at all: loopback peers only, as tenant `default`."""

    tokens: tuple[Token, ...] = ()
    passwords: tuple[Password, ...] = ()
    jwt: tuple[Jwt, ...] = ()
    logins: tuple[Login, ...] = ()
    signatures: tuple[Signature, ...] = ()
    certificates: tuple[Certificate, ...] = ()

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(
            self.tokens or self.passwords or self.jwt or self.logins or self.signatures or self.certificates
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """The files of TLS."""

    cert_file: str
    key_file: str
    client_ca_file: str = ""  # "": no client certificate is asked for
    require_client_certificate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PollSettings:
    """The Alertmanagers of one source, and how they are asked what is true now."""

    tenant: str
    source: str
    alertmanagers: tuple[str, ...]  # addresses without a slash at the end
    interval_s: float
    group_interval_s: float
    receiver: str
    username: str | None = None  # with a password, or
    password: SecretStr | None = None
    token: SecretStr | None = None  # a bearer token, or neither
    ca_file: str = ""  # "": the system's authorities


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesSettings:
    """One query whose series are watched, and where it is asked."""

    tenant: str
    source: str
    name: str
    query: str
    url: str  # of the Prometheus, without a slash at the end
    step_s: float
    labels: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationSettings:
    """One destination; `settings` is of its kind's own `Settings` type, for the connector to be made of."""

    name: str
    kind: str
    settings: BaseModel
    redact: Redact = NOTHING_MORE  # beside what was taken out before
    fallback: str = ""  # another destination; "": none
    fallback_after_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySettings:
    """How long and how much is kept for a destination that does not take it."""

    retry_horizon_s: float | None  # None: nothing is given up for its age
    retry_horizons: dict[str, float]  # by destination, seconds
    timeout_s: float
    max_waiting: int
    max_dead: int
    dead_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorQuotas:
    """How much of a tenant is let in; what is above is answered 503."""

    bytes_per_s: float  # mean over a minute
    in_flight_bytes: int | None  # None: half of what others leave of the budget
    storage_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that was configured."""

    host: str
    port: int
    external_url: str
    data_dir: Path
    max_body_bytes: int
    budget_bytes: int
    tenants: tuple[str, ...]
    quotas: dict[str, DoorQuotas]  # by tenant; what thinking allows them stands in `analysis`
    credentials: Credentials
    tls: TlsSettings | None  # None: plain HTTP
    polls: tuple[PollSettings, ...]  # of sources that have Alertmanagers to ask
    analysis: AnalysisSettings
    topology: Chart  # the topology file's; without services where there is none
    prometheus: tuple[tuple[str, str], ...]  # tenant and address of each that knows a service graph
    series: tuple[SeriesSettings, ...]
    destinations: tuple[DestinationSettings, ...]
    delivery: DeliverySettings
    raw_s: float
    history_s: float
    incidents_s: float
    quarantine_s: float
    audit_s: float
    redact_key: SecretStr | None  # None: one that is made beside the stores
    log_level: LogLevel
    notes: tuple[str, ...] = ()  # what is allowed and still looks like a mistake, with its place

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The bearer tokens among the credentials."""
        return self.credentials.tokens
