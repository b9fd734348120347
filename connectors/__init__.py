"""The destinations: one module per kind in `kinds/`, each pure, and `transport/`, the only sockets.

A kind is one class. What it offers:

* `Settings`: the pydantic model of its block in the configuration, a `credentials.DestinationSettings` (strict,
  no unknown keys, secrets with a `_file` twin);
* `example`: such a block, valid as it stands, used by the docs and the tests;
* `caps`: what holds for the kind's usual settings (an object's own is the truth, see `ports.Connector`);
* `Kind(settings)`: the connector itself, made from validated settings; it does no I/O.

Rules: a kind knows the words, the ports, `common`, `wording`, `credentials`, `formats`, `clouds` and `changes`, and no
other kind; `render` freezes the body, `seal` writes the address and the credentials anew for each attempt.

Decision: a table of strings rather than imports, so that a destination nobody configured costs nothing and
one whose extra is not installed breaks nobody else. `EXTRAS` says what a kind needs beside Tocsin's own dependencies;
what is missing is told when the configuration is read, not at the first incident. Third parties add kinds by the
entry-point group `tocsin.connectors`; a name of ours cannot be taken over.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, ClassVar, Protocol, cast

from bridge.errors import ConfigError
from bridge.ports import Connector
from connectors.tailoring import tailored

ENTRY_POINTS = "tocsin.connectors"

KINDS: dict[str, str] = {
    "apprise": "connectors.kinds.apprise:Apprise",
    "blob": "connectors.kinds.blob:Blob",
    "callback": "connectors.kinds.callback:Callback",
    "discord": "connectors.kinds.discord:Discord",
    "elastic": "connectors.kinds.elastic:Elastic",
    "email": "connectors.kinds.email:Email",
    "eventbridge": "connectors.kinds.eventbridge:EventBridge",
    "eventhubs": "connectors.kinds.eventhubs:EventHubs",
    "file": "connectors.kinds.file:File",
    "gcs": "connectors.kinds.gcs:Gcs",
    "google_chat": "connectors.kinds.google_chat:GoogleChat",
    "jira": "connectors.kinds.jira:Jira",
    "kafka": "connectors.kinds.kafka:Kafka",
    "loki": "connectors.kinds.loki:Loki",
    "opsgenie": "connectors.kinds.opsgenie:Opsgenie",
    "otlp": "connectors.kinds.otlp:Otlp",
    "pagerduty": "connectors.kinds.pagerduty:PagerDuty",
    "parquet": "connectors.kinds.parquet:Parquet",
    "postgres": "connectors.kinds.postgres:Postgres",
    "pubsub": "connectors.kinds.pubsub:PubSub",
    "s3": "connectors.kinds.s3:S3",
    "secops": "connectors.kinds.secops:SecOps",
    "securityhub": "connectors.kinds.securityhub:SecurityHub",
    "sentinel": "connectors.kinds.sentinel:Sentinel",
    "servicenow": "connectors.kinds.servicenow:ServiceNow",
    "slack": "connectors.kinds.slack:Slack",
    "sns": "connectors.kinds.sns:Sns",
    "splunk": "connectors.kinds.splunk:Splunk",
    "sqs": "connectors.kinds.sqs:Sqs",
    "syslog": "connectors.kinds.syslog:Syslog",
    "teams": "connectors.kinds.teams:Teams",
}
#: kind -> the extra of `pip install "tocsin[...]"` that it needs.
EXTRAS: dict[str, str] = {
    "apprise": "apprise",
    "eventbridge": "aws",
    "gcs": "google",
    "kafka": "kafka",
    "otlp": "otlp",
    "parquet": "lake",
    "postgres": "postgres",
    "pubsub": "google",
    "s3": "aws",
    "secops": "google",
    "securityhub": "aws",
    "sentinel": "azure",
    "sns": "aws",
    "sqs": "aws",
}
#: extra -> the modules that it brings and that are imported.
MODULES: dict[str, tuple[str, ...]] = {
    "apprise": ("apprise",),
    "aws": ("botocore",),
    "azure": ("azure.identity",),
    "google": ("google.auth", "requests"),
    "kafka": ("aiokafka",),
    "lake": ("duckdb",),
    "otlp": ("opentelemetry.proto",),
    "postgres": ("asyncpg",),
}


class Kind(Connector, Protocol):
    """What `load` returns is a class of this shape."""

    Settings: ClassVar[type[Any]]
    example: ClassVar[dict[str, Any]]

    def __init__(self, settings: Any) -> None: ...


def names() -> tuple[str, ...]:
    """Return the names of all kinds that are installed, third parties' included, sorted."""
    return tuple(sorted({*KINDS, *(point.name for point in entry_points(group=ENTRY_POINTS))}))


def load(kind: str) -> type[Kind]:
    """Return the class of a kind; imports it now.

    Raises:
        ConfigError: there is no such kind, and the message lists those that exist; or its extra is not installed.
    """
    lack = lacks(kind)
    if lack:
        raise ConfigError((f"a destination of kind {kind!r} {lack}",))
    return described(kind)


def described(kind: str) -> type[Kind]:
    """Return the class of a kind for its settings and caps, whether or not its extra is installed; imports it now.

    Raises:
        ConfigError: there is no such kind, and the message lists those that exist.
    """
    if kind in KINDS:
        module, _, attribute = KINDS[kind].partition(":")
        return cast("type[Kind]", getattr(import_module(module), attribute))
    for point in entry_points(group=ENTRY_POINTS, name=kind):
        return cast("type[Kind]", point.load())
    raise ConfigError((f"there is no destination of kind {kind!r}; there are: {', '.join(names())}",))


def make(kind: str, settings: Any) -> Connector:
    """Return the connector of validated settings, with what they say beside the kind's own (`tailoring`).

    Raises:
        ConfigError: As `load`.
    """
    return tailored(load(kind)(settings), settings)


def lacks(kind: str) -> str:
    """Return what has to be installed before a kind can be used, in words; "" for nothing."""
    extra = EXTRAS.get(kind)
    if extra is None or all(map(_is_installed, MODULES[extra])):
        return ""
    return f'needs more: pip install "tocsin[{extra}]"'


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False
