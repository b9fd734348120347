"""What a configuration may say: every key with its type, default and one sentence.

Rules: the key a user writes is the alias where the field's own name carries a unit. Strict: a number is not
text and text is not a number. No message repeats what may be a secret. Relative paths start at the working
directory.

Decision: pydantic here and nowhere below; what leaves this room is `Settings`. The descriptions are the
comments of config/tocsin.yaml (a test compares them), so that schema, file and code cannot drift apart.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    WithJsonSchema,
    model_validator,
)

from bridge.analysis.matchers import Matcher, parse_list
from bridge.analysis.settings import (
    DEFAULT_KINDS,
    DEFAULT_ORIGINS,
    AnalysisSettings,
    Grouping,
    Reclustering,
    Source,
)
from bridge.model import SEVERITY_RANK, EventKind, Origin, Severity

Role = Literal["sender", "viewer", "responder", "admin"]
LogLevel = Literal["debug", "info", "warning", "error"]

_UNIT_S = {"y": 31_536_000, "w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,9}}){unit})?" for unit in _UNIT_S))
_SIZE = re.compile(r"([0-9]{1,12})\s?(B|kB|MB|GB|KiB|MiB|GiB)")
_SIZE_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SOURCE = Source(tenant="", name="")
_ANALYSIS = AnalysisSettings()
LONGEST_S = 10 * _UNIT_S["y"]
MIN_TOKEN = 16


def duration_s(text: object) -> float:
    """Return the seconds of `30s`, `5m`, `1h30m`, `30d`: Prometheus' durations, largest unit first."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) and text else None
    if found is None:
        raise ValueError("must be a duration with its unit, such as 30s, 5m, 1h30m or 30d")
    amount = sum(
        int(count) * unit_s for count, unit_s in zip(found.groups(), _UNIT_S.values(), strict=True) if count
    )
    if amount > LONGEST_S:
        raise ValueError("must be at most 10y")
    return float(amount)


def size_bytes(text: object) -> int:
    """Return the bytes of `64MiB`, `500kB`, `1GiB`."""
    found = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError("must be a size with its unit, such as 64MiB, 500kB or 1GiB")
    return int(found[1]) * _SIZE_BYTES[found[2]]


def _positive(amount: float) -> float:
    if amount <= 0:
        raise ValueError("must be more than zero")
    return amount


def _at_least_a_minute(amount_s: float | None) -> float | None:
    if amount_s is not None and amount_s < _UNIT_S["m"]:
        raise ValueError("must be at least 1m")
    return amount_s


def _at_least_a_second(amount_s: float) -> float:
    if amount_s < _UNIT_S["s"]:
        raise ValueError("must be at least 1s")
    return amount_s


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("must be 1 to 64 letters, digits, `_`, `.` or `-`, and begin with a letter or digit")
    return text


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:  # noqa: PLR2004 - the ports of TCP
        raise ValueError("must be host:port, such as 127.0.0.1:9195 or [::1]:9195")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError("an IPv6 address stands in brackets, such as [::1]:9195")
    return text


def _web_url(text: str) -> str:
    if text and (urlsplit(text).scheme not in {"http", "https"} or not urlsplit(text).hostname):
        raise ValueError("must begin with http:// or https:// and a host")
    if urlsplit(text).query or urlsplit(text).fragment or urlsplit(text).username:
        raise ValueError("must be an address without user, query or fragment")
    return text.rstrip("/")


def _peers(urls: list[str]) -> list[str]:
    for url in urls:
        if not url:
            raise ValueError("must begin with http:// or https:// and a host")
    if len(set(urls)) < len(urls):
        raise ValueError("names an address twice; each peer stands once")
    return urls


def _certificates(path: str) -> str:
    if path:
        try:
            ssl.create_default_context(cafile=path)
        except OSError as error:  # ssl's own errors are of this kind
            raise ValueError(f"no certificates can be read from {path}") from error
    return path


def _header(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text or not text.isascii() or not text.isprintable():
        raise ValueError("may hold visible ASCII characters only, and must not be empty")
    return secret


def _token(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if len(text) < MIN_TOKEN:
        raise ValueError(f"must have at least {MIN_TOKEN} characters; make one with `openssl rand -hex 32`")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("may hold visible ASCII characters only; make one with `openssl rand -hex 32`")
    return secret


def _read_secret(path: object) -> object:
    if not isinstance(path, str):
        return path
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not a text file") from error


def _matchers(given: object) -> list[str]:
    """Return one text per matcher, each as `bridge.analysis.matchers.parse` reads it."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("must be matchers in quotes, such as 'team=\"db\"', or a list of them")
    return [matcher.text for text in texts for matcher in parse_list(text)]


def _route_matchers(texts: list[str]) -> list[str]:
    for matcher in (parse_list(text)[0] for text in texts):
        if matcher.name == "severity" and not any(map(_holds(matcher), SEVERITY_RANK)):
            raise ValueError(
                f"{matcher.text} can never hold: in a route `severity` is the incident's own, one of "
                f"{', '.join(reversed(SEVERITY_RANK))} (analysis.severities says what counts as which)"
            )
    return texts


def _holds(matcher: Matcher) -> Callable[[str], bool]:
    return lambda severity: matcher.holds({"severity": severity})


def _needed(texts: list[str]) -> list[str]:
    if not texts:
        raise ValueError("needs at least one matcher, such as 'alertname=\"Watchdog\"'")
    return texts


_DURATION_SCHEMA = WithJsonSchema(
    {"type": "string", "pattern": f"^{_DURATION.pattern}$", "examples": ["30s", "1h30m"]}
)
_MATCH_SCHEMA = WithJsonSchema(
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}], "examples": ['team="db"']}
)
Duration = Annotated[float, BeforeValidator(duration_s), _DURATION_SCHEMA]
LongerDuration = Annotated[float, BeforeValidator(duration_s), AfterValidator(_positive), _DURATION_SCHEMA]
Size = Annotated[
    int,
    BeforeValidator(size_bytes),
    AfterValidator(_positive),
    WithJsonSchema({"type": "string", "pattern": f"^{_SIZE.pattern}$", "examples": ["64MiB"]}),
]
Name = Annotated[str, AfterValidator(_name)]
Token = Annotated[SecretStr, AfterValidator(_token)]
TokenFile = Annotated[
    SecretStr, BeforeValidator(_read_secret), AfterValidator(_token), WithJsonSchema({"type": "string"})
]
Password = Annotated[SecretStr, AfterValidator(_header)]
PasswordFile = Annotated[
    SecretStr, BeforeValidator(_read_secret), AfterValidator(_header), WithJsonSchema({"type": "string"})
]
Matchers = Annotated[list[str], BeforeValidator(_matchers), _MATCH_SCHEMA]
Ratio = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A mapping of the file."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class Storage(Section):
    """Where Tocsin keeps what it must not lose."""

    path: Annotated[str, Field(min_length=1)] = Field(
        default="./data",
        description="Directory of the stores; a relative path starts at the working directory.",
    )


class Limits(Section):
    """What the intake takes in."""

    max_body_bytes: Size = Field(
        default=64 << 20, alias="max_body", description="Largest webhook body; a larger one is answered 413."
    )
    budget_bytes: Size = Field(
        default=256 << 20,
        alias="budget",
        description="Memory for webhooks in flight; with none left the answer is 503 and they come again.",
    )


class Credential(Section):
    """One token and what it may do."""

    token: Token | None = Field(
        default=None,
        description="Bearer token of 16 characters or more; or token_file, the path of a file with it.",
    )
    token_file: TokenFile | None = Field(
        default=None, description="File that holds the token, instead of `token`."
    )
    role: Role = Field(
        default="sender",
        description="sender sends webhooks only; viewer reads; responder also acts; admin also reloads.",
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


class Tenant(Section):
    """One owner of alerts, kept apart from all others."""

    name: Name = Field(description="Name of the tenant.")
    tokens: list[Credential] = Field(
        default=[], description="Who may speak for it; with no tokens at all only this machine may."
    )


class SourceEntry(Section):
    """One Alertmanager with its peers, how often it repeats itself, and where it can be asked."""

    name: Name = Field(description="Last part of the address it sends to, /v1/alertmanager/<name>.")
    tenant: Name | None = Field(default=None, description="Tenant it sends for; null for the first one.")
    repeat_interval_s: LongerDuration = Field(
        default=_SOURCE.repeat_interval_s,
        alias="repeat_interval",
        description="Its repeat_interval; an alert expires after twice this and group_interval.",
    )
    group_interval_s: LongerDuration = Field(
        default=_SOURCE.group_interval_s,
        alias="group_interval",
        description="Its group_interval; for twice this a webhook may be on its way.",
    )
    prometheus: Annotated[str, AfterValidator(_web_url)] | None = Field(
        default=None,
        description="A Prometheus beside it, asked who calls whom (service graph and Istio metrics); null for none.",
    )
    alertmanagers: Annotated[list[Annotated[str, AfterValidator(_web_url)]], AfterValidator(_peers)] = Field(
        default=[],
        description="Addresses of all its peers, to ask what is true now; none: nobody is asked.",
    )
    poll_interval_s: Annotated[LongerDuration, AfterValidator(_at_least_a_second)] = Field(
        default=30.0, alias="poll_interval", description="All of them are asked so often."
    )
    receiver: Annotated[str, Field(min_length=1)] = Field(
        default="tocsin",
        description="Its receiver that sends here; what only others get is not missed.",
    )
    token: Password | None = Field(
        default=None,
        description="Bearer token that the peers ask for; or token_file, the path of a file with it.",
    )
    token_file: PasswordFile | None = Field(
        default=None, description="File that holds the bearer token, instead of `token`."
    )
    username: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="User name that the peers ask for, with password or password_file."
    )
    password: Password | None = Field(default=None, description="Password of this user.")
    password_file: PasswordFile | None = Field(
        default=None, description="File that holds the password, instead of `password`."
    )
    ca_file: Annotated[str, AfterValidator(_certificates)] = Field(
        default="",
        description="PEM file of the authorities that the peers are trusted by; empty for the system's.",
    )

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if self.token is not None and self.token_file is not None:
            raise ValueError("give only one of token and token_file")
        if self.password is not None and self.password_file is not None:
            raise ValueError("give only one of password and password_file")
        if (self.username is not None) is not (self.given_password is not None):
            raise ValueError("username and password (or password_file) go together")
        if self.username is not None and self.given_token is not None:
            raise ValueError("give either a token or a username, not both")
        if not self.alertmanagers and (self.username or self.given_token or self.ca_file):
            raise ValueError("has credentials and nobody to show them to; write `alertmanagers: [url, ...]`")
        return self

    @property
    def given_token(self) -> SecretStr | None:
        """The bearer token, wherever it was given."""
        return self.token or self.token_file

    @property
    def given_password(self) -> SecretStr | None:
        """The password, wherever it was given."""
        return self.password or self.password_file


class HeartbeatEntry(Section):
    """An alert that must keep firing."""

    match: Annotated[Matchers, AfterValidator(_needed)] = Field(
        description="Which alert it is; all must hold."
    )
    missing_after_s: LongerDuration = Field(
        default=900.0,
        alias="missing_after",
        description="Unheard of for so long, once it has been heard, it opens a critical incident.",
    )


class TopologyFile(Section):
    """Which services there are and who calls whom."""

    file: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="YAML file with `services:`, see docs/topology.md; a relative path starts at the working "
        "directory. null for none.",
    )
    label: Annotated[str, Field(min_length=1)] = Field(
        default=_ANALYSIS.topology_label, description="Label whose value names an alert's service."
    )


class Analysis(Section):
    """How alerts become incidents."""

    sensitivity: Ratio = Field(
        default=_ANALYSIS.sensitivity,
        description="0 to 1: how readily alerts are put together; higher joins more, which moves the learned linker's "
        "threshold by up to two log odds either way.",
    )
    grouping: Grouping = Field(
        default=_ANALYSIS.grouping,
        description="auto, entities, bursts or linker: which way alerts are grouped; auto leaves it to each tenant's "
        "own history.",
    )
    reclustering: Reclustering = Field(
        default=_ANALYSIS.reclustering,
        description="correlation or hdbscan: how the learned linker looks again at the last quarter of an hour.",
    )
    window_s: LongerDuration = Field(
        default=_ANALYSIS.window_s,
        alias="window",
        description="An incident takes in new alerts for so long after its last one; the learned linker always "
        "looks back a quarter of an hour.",
    )
    close_after_s: LongerDuration = Field(
        default=_ANALYSIS.close_after_s,
        alias="close_after",
        description="An incident quiet for so long is closed.",
    )
    reopen_within_s: Duration = Field(
        default=_ANALYSIS.reopen_within_s,
        alias="reopen_within",
        description="A closed incident reopens when its alerts come back within this.",
    )
    dispute_s: Duration = Field(
        default=_ANALYSIS.dispute_s,
        alias="dispute",
        description="How long a firing that may be a stale copy waits before it counts.",
    )
    models: bool = Field(
        default=_ANALYSIS.models,
        description="false: group by group key, labels and time alone, without models.",
    )
    severity_label: Annotated[str, Field(min_length=1)] = Field(
        default=_ANALYSIS.severity_label, description="Label that holds an alert's severity."
    )
    unknown_severity: Severity = Field(
        default=_ANALYSIS.unknown_severity,
        description="Severity of an alert whose label is missing or not known.",
    )
    severities: dict[str, Severity] = Field(
        default={}, description="What a label value counts as; added to the built-in list."
    )


class DestinationHead(BaseModel):
    """What every destination has; the rest is its kind's own."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    name: Name = Field(description="Name that routes use.")
    kind: str = Field(description="Which connector.")


class RouteEntry(Section):
    """Which incident events go where."""

    match: Annotated[Matchers, AfterValidator(_route_matchers)] = Field(
        default=[],
        description="All must hold for a firing alert; `severity` is the incident's. None: all incidents.",
    )
    min_anomaly: Ratio | None = Field(
        default=None, description="Only incidents at least so unusual, 0 to 1; null for all."
    )
    kinds: list[Annotated[EventKind, Field(strict=False)]] = Field(
        default=list(DEFAULT_KINDS), description="Which events of an incident."
    )
    origin: list[Origin] = Field(
        default=list(DEFAULT_ORIGINS), description="Which incidents, by what opened them."
    )
    to: Annotated[list[str], Field(min_length=1)] = Field(description="Names of destinations.")
    wait_s: Duration | None = Field(
        default=None,
        alias="wait",
        description="Hold back what is not critical; null for the usual: 0s, for chat and paging 30s.",
    )
    repeat_s: Annotated[Duration, AfterValidator(_at_least_a_minute)] | None = Field(
        default=None, alias="repeat", description="Remind while it is open, so often; null for never."
    )
    tenant: Name | None = Field(default=None, description="Only incidents of this tenant; null for all.")


class Delivery(Section):
    """How long and how much is kept for a destination that does not take it."""

    retry_horizon_s: LongerDuration | None = Field(
        default=None,
        alias="retry_horizon",
        description="An event is given up so long after it was made; null for never.",
    )
    retry_horizons: dict[str, LongerDuration] = Field(
        default={}, description="The same for single destinations, by their name."
    )
    timeout_s: LongerDuration = Field(
        default=30.0, alias="timeout", description="A request and its answer may take so long."
    )
    max_waiting: Annotated[int, Field(ge=1)] = Field(
        default=1_000_000,
        description="Events that wait for one destination; fewer where the disk is small, the oldest make room.",
    )
    max_dead: Annotated[int, Field(ge=0)] = Field(
        default=10_000, description="Dead letters of one destination; the oldest make room."
    )
    dead_s: LongerDuration = Field(
        default=30 * 86400.0, alias="dead", description="Dead letters are kept for so long."
    )


class Retention(Section):
    """How long things are kept."""

    raw_s: Duration = Field(
        default=3600.0, alias="raw", description="Webhooks as they came, after they were understood."
    )
    history_s: LongerDuration = Field(
        default=_ANALYSIS.history_s,
        alias="history",
        description="Alerts as they were understood; what an export holds.",
    )
    incidents_s: LongerDuration = Field(
        default=_ANALYSIS.incidents_s, alias="incidents", description="Incidents, after they were closed."
    )
    quarantine_s: LongerDuration = Field(
        default=_ANALYSIS.quarantine_s,
        alias="quarantine",
        description="Alerts and bodies that could not be used.",
    )


class Log(Section):
    """What is written to standard error."""

    level: LogLevel = Field(default="info", description="debug, info, warning or error.")


class Configuration(Section):
    """The whole file."""

    listen: Annotated[str, AfterValidator(_address)] = Field(
        default="127.0.0.1:9195", description="Address and port; other than loopback only with tokens."
    )
    external_url: Annotated[str, AfterValidator(_web_url)] = Field(
        default="",
        description="Where people reach Tocsin, for links in messages; they lead to the API, which needs a token "
        "where tokens are set. Empty for no links.",
    )
    storage: Storage = Field(default=Storage(), description="Where Tocsin keeps what it must not lose.")
    limits: Limits = Field(default=Limits(), description="What the intake takes in.")
    tenants: list[Tenant] = Field(
        default=[Tenant(name="default")], description="Who sends alerts and reads incidents."
    )
    sources: list[SourceEntry] = Field(
        default=[SourceEntry(name="default")],
        description="Alertmanagers that are asked what is true now, or whose intervals are not the usual ones.",
    )
    heartbeats: list[HeartbeatEntry] = Field(
        default=[HeartbeatEntry(match='alertname="Watchdog"')],  # type: ignore[arg-type]
        description="Alerts that must keep firing; they are kept out of incidents.",
    )
    topology: TopologyFile = Field(
        default=TopologyFile(), description="Which services there are and who calls whom."
    )
    analysis: Analysis = Field(default=Analysis(), description="How alerts become incidents.")
    destinations: list[dict[str, object]] = Field(
        default=[], description="Where incidents go; none: the file incidents.jsonl in the storage directory."
    )
    routes: list[RouteEntry] = Field(
        default=[],
        description="Which incident events go where; every route that matches applies. None: all to all.",
    )
    delivery: Delivery = Field(
        default=Delivery(),
        description="How long and how much is kept for a destination that does not take it.",
    )
    retention: Retention = Field(default=Retention(), description="How long things are kept.")
    log: Log = Field(default=Log(), description="What is written to standard error.")
