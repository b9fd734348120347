"""What a configuration may say: every key with its type, default and one sentence.

Rules: the key a user writes is the alias where the field's own name carries a unit. Strict: a number is not
text and text is not a number. No message repeats what may be a secret. Relative paths start at the working
directory.

Decision: pydantic here and nowhere below; what leaves this room is `Settings`. The descriptions are the
comments of config/tocsin.yaml (a test compares them), so that schema, file and code cannot drift apart.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from bridge.analysis.settings import (
    DEFAULT_KINDS,
    DEFAULT_ORIGINS,
    AnalysisSettings,
    Grouping,
    Reclustering,
    Source,
)
from bridge.config.credentials import LoginEntry, Tenant, Tls
from bridge.config.redacting import Redaction, RedactMore
from bridge.config.values import (
    Duration,
    LongerDuration,
    Matchers,
    Name,
    Password,
    PasswordFile,
    Ratio,
    Section,
    Size,
    a_horizon,
    address,
    at_least_a_minute,
    at_least_a_second,
    certificates,
    needed,
    peers,
    route_matchers,
    web_url,
    windows,
)
from bridge.model import EventKind, Origin, Severity

LogLevel = Literal["debug", "info", "warning", "error"]

_SOURCE = Source(tenant="", name="")
_ANALYSIS = AnalysisSettings()


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
    prometheus: Annotated[str, AfterValidator(web_url)] | None = Field(
        default=None,
        description="A Prometheus beside it, asked who calls whom (service graph and Istio metrics); null for none.",
    )
    alertmanagers: Annotated[list[Annotated[str, AfterValidator(web_url)]], AfterValidator(peers)] = Field(
        default=[],
        description="Addresses of all its peers, to ask what is true now; none: nobody is asked.",
    )
    poll_interval_s: Annotated[LongerDuration, AfterValidator(at_least_a_second)] = Field(
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
    ca_file: Annotated[str, AfterValidator(certificates)] = Field(
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

    match: Annotated[Matchers, AfterValidator(needed)] = Field(
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


class SeriesEntry(Section):
    """A series of a Prometheus that is watched."""

    name: Name = Field(description="Name of the series, unique; incidents speak of it by this.")
    query: Annotated[str, Field(min_length=1)] = Field(
        description="What is asked in PromQL; each series of the answer is watched by itself, at most 200."
    )
    source: Name | None = Field(
        default=None,
        description="Source whose `prometheus` is asked; null for the only one that has one.",
    )
    step_s: Annotated[LongerDuration, AfterValidator(at_least_a_second)] = Field(
        default=60.0, alias="step", description="A value is asked for so often."
    )
    labels: dict[Annotated[str, Field(min_length=1)], str] = Field(
        default={}, description="Labels beside the series' own, such as the service it is about."
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
        description="auto, bursts, entities or linker: which way alerts are grouped; auto is bursts, which is time "
        "alone, until another way has won an exam on the tenant's own history.",
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
    false_alarms_a_week: Annotated[float, Field(gt=0, le=1000)] = Field(
        default=_ANALYSIS.false_alarms_a_week,
        alias="false_alarms_per_week",
        description="How many anomalies a week a tenant accepts that are none, over all that is watched; fewer make "
        "Tocsin less sensitive.",
    )
    count_by: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=8)] = Field(
        default=list(_ANALYSIS.count_by),
        description="Labels by whose values firings are counted, beside all together, kind of alert and service.",
    )
    count_windows: Annotated[
        list[Annotated[LongerDuration, AfterValidator(at_least_a_minute)]], AfterValidator(windows)
    ] = Field(
        default=list(_ANALYSIS.count_windows_s),
        description="Firings are counted in windows so long, 1 to 4 of them, each a multiple of the first.",
    )
    horizon_s: Annotated[LongerDuration, AfterValidator(a_horizon)] = Field(
        default=_ANALYSIS.horizon_s,
        alias="horizon",
        description="How far ahead it is forecast whether an incident begins, 15m to 30d (docs/forecasts.md).",
    )
    series: list[SeriesEntry] = Field(
        default=[],
        description="Series of a Prometheus that are watched for what is unusual (docs/anomalies.md).",
    )


class DestinationHead(BaseModel):
    """What every destination has; the rest is its kind's own."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    name: Name = Field(description="Name that routes use.")
    kind: str = Field(description="Which connector.")
    redact: RedactMore = Field(
        default=RedactMore(), description="What is taken out of its events beside what was taken out before."
    )
    fallback: Name | None = Field(
        default=None,
        description="Destination that gets, marked, what this one rejects and, while it is down, what waits.",
    )
    fallback_after_s: LongerDuration = Field(
        default=300.0,
        alias="fallback_after",
        description="Down for so long, what waits goes to the fallback, too; it also goes here later.",
    )


class RouteEntry(Section):
    """Which incident events go where."""

    match: Annotated[Matchers, AfterValidator(route_matchers)] = Field(
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
    repeat_s: Annotated[Duration, AfterValidator(at_least_a_minute)] | None = Field(
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
    audit_s: LongerDuration = Field(
        default=365 * 86400.0,
        alias="audit",
        description="Who changed what; a month is deleted once all of it is older.",
    )


class Log(Section):
    """What is written to standard error."""

    level: LogLevel = Field(default="info", description="debug, info, warning or error.")


class Configuration(Section):
    """The whole file."""

    listen: Annotated[str, AfterValidator(address)] = Field(
        default="127.0.0.1:9195", description="Address and port; other than loopback only with tokens."
    )
    tls: Tls = Field(
        default=Tls(), description="Listening with TLS; changed files are taken over without a restart."
    )
    external_url: Annotated[str, AfterValidator(web_url)] = Field(
        default="",
        description="Where people reach Tocsin, for links in messages; they lead to the API, which needs a token "
        "where tokens are set. Empty for no links.",
    )
    storage: Storage = Field(default=Storage(), description="Where Tocsin keeps what it must not lose.")
    limits: Limits = Field(default=Limits(), description="What the intake takes in.")
    tenants: list[Tenant] = Field(
        default=[Tenant(name="default")], description="Who sends alerts and reads incidents."
    )
    logins: list[LoginEntry] = Field(
        default=[],
        description="Issuers of signed tokens that say for which tenant they are, for all tenants at once.",
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
    redact: Redaction = Field(
        default=Redaction(), description="What is taken out of alerts before anything is kept of them."
    )
    delivery: Delivery = Field(
        default=Delivery(),
        description="How long and how much is kept for a destination that does not take it.",
    )
    retention: Retention = Field(default=Retention(), description="How long things are kept.")
    log: Log = Field(default=Log(), description="What is written to standard error.")
