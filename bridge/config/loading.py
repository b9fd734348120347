"""A file to `Settings`: reads it, validates its parts, checks what the parts say of each other.

Rules: all faults at once. A check across parts looks only at parts that are good by themselves, and a name
counts as known even where the rest of its block is bad. Nothing is read but the file itself, the files of
secrets, and the environment that was handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bridge.analysis.quotas import Quotas
from bridge.analysis.settings import (
    DEFAULT_SEVERITIES,
    AnalysisSettings,
    Destination,
    Heartbeat,
    Keeping,
    Route,
    Source,
)
from bridge.config.credentials import LoginEntry, Tenant, Tls
from bridge.config.document import Document, read
from bridge.config.doors import check_tls, check_unique, credentials_of, door_quotas_of, quotas_of, tls_of
from bridge.config.faults import path_of, unknown
from bridge.config.models import (
    Analysis,
    Configuration,
    Delivery,
    DestinationHead,
    HeartbeatEntry,
    Limits,
    Log,
    Retention,
    RouteEntry,
    SourceEntry,
    Storage,
    TopologyFile,
)
from bridge.config.parts import Entry, Parts
from bridge.config.redacting import Redaction, RedactMore
from bridge.config.settings import (
    DeliverySettings,
    DestinationKind,
    DestinationSettings,
    PollSettings,
    SeriesSettings,
    Settings,
)
from bridge.config.topology import NOTHING, Found, load_topology
from bridge.errors import ConfigError
from bridge.model import OWN_SOURCE
from bridge.redaction import takes

#: Without any token there is one tenant, and this machine speaks for it.
_OPEN = ["default"]
#: The line of what stands on the command line instead of in the file.
_COMMAND_LINE = 0


def load(
    path: Path | None,
    kinds: Mapping[str, DestinationKind],
    environ: Mapping[str, str],
    *,
    listen: str | None = None,
    data_dir: Path | None = None,
) -> Settings:
    """Return the settings in the file at `path`; without a file, the defaults.

    Args:
        path: The YAML file. Relative paths inside of it start at the working directory, not at the file.
        kinds: Every destination kind there is, by name.
        environ: What `${NAME}` is taken from.
        listen: Goes before the file's `listen`.
        data_dir: Goes before the file's `storage.path`.

    Raises:
        ConfigError: With every fault, each as `file:line: path.to.key: what is wrong and what to write`.
    """
    document = _read(path, environ)
    if document.data is None:  # `---` and nothing else
        document.data = {}
    if not isinstance(document.data, dict):
        document.fault((), "must be a mapping of `key: value` lines")
        document.data = {}
    _override(document, listen, data_dir)
    parts = Parts(document)
    found, faults = _topology(parts, environ)
    settings = _settings(parts, document, kinds, found)
    if document.faults or faults:
        raise ConfigError(_lines(str(path), document) + faults)
    return settings


def default(
    kinds: Mapping[str, DestinationKind], *, data_dir: Path | None = None, listen: str | None = None
) -> Settings:
    """Return what holds without a configuration: loopback, no credentials, one file of incidents."""
    return load(None, kinds, {}, data_dir=data_dir, listen=listen)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`; a name other than localhost counts as reachable."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


# ---- the file --------------------------------------------------------------------------------------------


def _read(path: Path | None, environ: Mapping[str, str]) -> Document:
    if path is None:
        return Document()
    try:
        return read(path.read_text(encoding="utf-8"), environ)
    except OSError as error:
        raise ConfigError((f"{path}: cannot be read: {error.strerror}",)) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError((f"{path}:{line}: is not UTF-8 text; save it as UTF-8",)) from error


def _override(document: Document, listen: str | None, data_dir: Path | None) -> None:
    if listen is not None:
        document.data["listen"] = listen
        document.mark(("listen",), _COMMAND_LINE)
    if data_dir is not None:
        document.data["storage"] = {"path": str(data_dir)}
        document.mark(("storage",), _COMMAND_LINE)


def _lines(name: str, document: Document) -> tuple[str, ...]:
    lines: dict[str, None] = {}
    for fault in sorted(document.faults, key=lambda fault: fault.line):
        where = "command line" if fault.line == _COMMAND_LINE else f"{name}:{fault.line}"
        path = path_of(fault.place, document.data)
        lines[f"{where}: {path + ': ' if path else ''}{fault.what}"] = None
    return tuple(lines)


# ---- the settings ----------------------------------------------------------------------------------------


def _topology(parts: Parts, environ: Mapping[str, str]) -> tuple[Found, tuple[str, ...]]:
    """Return what the topology file says, and its faults."""
    file = parts.section("topology", TopologyFile).file
    try:
        return (NOTHING if file is None else load_topology(Path(file), environ)), ()
    except ConfigError as error:
        return NOTHING, error.faults


def _settings(
    parts: Parts, document: Document, kinds: Mapping[str, DestinationKind], topology: Found
) -> Settings:
    """Return the settings; good only if the document has no faults afterwards."""
    storage = parts.section("storage", Storage)
    if not parts.has("destinations"):
        path = f"{storage.path.removesuffix('/')}/incidents.jsonl"
        document.data["destinations"] = [{"name": "file", "kind": "file", "path": path}]
    destinations = parts.destinations(kinds, Path(storage.path))
    tenants, logins = parts.entries("tenants", Tenant), parts.entries("logins", LoginEntry)
    tls = parts.section("tls", Tls)
    listen = parts.plain("listen")
    host, _, port = listen.rpartition(":")
    limits, retention = parts.section("limits", Limits), parts.section("retention", Retention)
    checks = _Checks(parts, document)
    checks.names()
    checks.doors(host, tenants, logins)
    check_tls(tls, tenants, document)
    checks.limits(limits)
    return Settings(
        host=host.strip("[]"),
        port=int(port),
        external_url=parts.plain("external_url"),
        data_dir=Path(storage.path),
        max_body_bytes=limits.max_body_bytes,
        budget_bytes=limits.budget_bytes,
        tenants=tuple(checks.tenants),
        quotas=door_quotas_of(checks.tenants, tenants),
        credentials=credentials_of(tenants, logins),
        tls=tls_of(tls),
        polls=checks.polls(),
        analysis=replace(
            _analysis(
                parts,
                checks,
                _told(destinations, kinds),
                (retention, _keeping(tenant for _, tenant in tenants)),
                quotas_of(tenants),
            ),
            **_redacts(parts, tenants),
        ),
        topology=topology.chart,
        prometheus=checks.prometheus(),
        series=checks.series(),
        destinations=tuple(destinations),
        delivery=_delivery(parts),
        raw_s=retention.raw_s,
        history_s=retention.history_s,
        incidents_s=retention.incidents_s,
        quarantine_s=retention.quarantine_s,
        audit_s=retention.audit_s,
        redact_key=parts.section("redact", Redaction).given_key,
        log_level=parts.section("log", Log).level,
        notes=checks.notes(kinds) + topology.notes,
    )


def _redacts(parts: Parts, tenants: Sequence[Entry[Tenant]]) -> dict[str, Any]:
    """Return what is taken out of all alerts, and of those of the tenants that have rules of their own."""
    usual = parts.section("redact", Redaction).terms
    own = {tenant.name: tenant.redact.on(usual) for _, tenant in tenants if tenant.redact != RedactMore()}
    return {"redact": usual, "tenant_redacts": own}


def _delivery(parts: Parts) -> DeliverySettings:
    given = parts.section("delivery", Delivery)
    return DeliverySettings(
        retry_horizon_s=given.retry_horizon_s,
        retry_horizons=given.retry_horizons,
        timeout_s=given.timeout_s,
        max_waiting=given.max_waiting,
        max_dead=given.max_dead,
        dead_s=given.dead_s,
    )


def _told(
    destinations: Sequence[DestinationSettings], kinds: Mapping[str, DestinationKind]
) -> tuple[Destination, ...]:
    return tuple(Destination(name=each.name, wait_s=kinds[each.kind].caps.wait_s) for each in destinations)


def _analysis(
    parts: Parts,
    checks: _Checks,
    destinations: tuple[Destination, ...],
    kept: tuple[Retention, tuple[Keeping, ...]],
    quotas: tuple[Quotas, ...],
) -> AnalysisSettings:
    retention, keeping = kept
    analysis = parts.section("analysis", Analysis)
    severities = {value.strip().lower(): severity for value, severity in analysis.severities.items()}
    heartbeats = [heartbeat for _, heartbeat in parts.entries("heartbeats", HeartbeatEntry)]
    if not parts.has("heartbeats"):
        heartbeats = Configuration().heartbeats
    return AnalysisSettings(
        severities=DEFAULT_SEVERITIES | severities,
        severity_label=analysis.severity_label,
        unknown_severity=analysis.unknown_severity,
        window_s=analysis.window_s,
        close_after_s=analysis.close_after_s,
        reopen_within_s=analysis.reopen_within_s,
        dispute_s=analysis.dispute_s,
        topology_label=parts.section("topology", TopologyFile).label,
        sensitivity=analysis.sensitivity,
        grouping=analysis.grouping,
        reclustering=analysis.reclustering,
        count_by=tuple(dict.fromkeys(analysis.count_by)),
        count_windows_s=tuple(analysis.count_windows),
        false_alarms_a_week=analysis.false_alarms_a_week,
        horizon_s=analysis.horizon_s,
        models=analysis.models,
        heartbeats=tuple(
            Heartbeat(match=tuple(each.match), missing_after_s=each.missing_after_s) for each in heartbeats
        ),
        sources=checks.sources(),
        destinations=destinations,
        routes=checks.routes(),
        quotas=quotas,
        external_url=parts.plain("external_url"),
        history_s=retention.history_s,
        incidents_s=retention.incidents_s,
        quarantine_s=retention.quarantine_s,
        keeping=keeping,
    )


def _keeping(tenants: Iterable[Tenant]) -> tuple[Keeping, ...]:
    """Return for how long things of those tenants are kept that have a time of their own."""
    found = (
        Keeping(
            tenant=tenant.name, history_s=tenant.retention.history_s,
            incidents_s=tenant.retention.incidents_s, quarantine_s=tenant.retention.quarantine_s,
        )
        for tenant in tenants
    )  # fmt: skip
    return tuple(each for each in found if each != Keeping(tenant=each.tenant))


class _Checks:
    """What the parts say of each other."""

    def __init__(self, parts: Parts, document: Document) -> None:
        self._parts = parts
        self._document = document
        self._destinations = [name for _, name in parts.mentioned("destinations", "name")]
        named = [name for _, name in parts.mentioned("tenants", "name")]
        self.tenants = named or [tenant.name for tenant in Configuration().tenants]

    def names(self) -> None:
        """Check that names are unique, and that what is named exists."""
        for key in ("tenants", "destinations"):
            self._unique(key)
        for key in ("sources", "routes"):
            self._known(key, "tenant", self.tenants, "tenant")
        self._known("routes", "to", self._destinations, "destination")
        self._known("destinations", "fallback", self._destinations, "destination")
        self._fallbacks()
        horizons = self._parts.keys_of("delivery", "retry_horizons")
        for place, name in horizons:
            if name not in self._destinations:
                self._document.fault(place, unknown(name, self._destinations, "destination"))
        for place, name in self._parts.mentioned("sources", "name"):
            if name == OWN_SOURCE:
                what = f"`{OWN_SOURCE}` is the source of Tocsin's own troubles; choose another name"
                self._document.fault(place, what)

    def _fallbacks(self) -> None:
        """Check that no fallback leads back to where it came from."""
        names = {place[:2]: name for place, name in self._parts.mentioned("destinations", "name")}
        found = self._parts.mentioned("destinations", "fallback")
        following = {names.get(place[:2], ""): to for place, to in found}
        for place, first in found:
            way, to = [names.get(place[:2], "")], first
            while to and to not in way:
                way.append(to)
                to = following.get(to, "")
            if to == way[0]:
                told = " -> ".join([*way, to])
                what = f"leads back to where it came from ({told}); the last one has none"
                self._document.fault(place, what)

    def doors(self, host: str, tenants: Sequence[Entry[Tenant]], logins: Sequence[Entry[LoginEntry]]) -> None:
        """Check who gets in."""
        anybody = bool(logins) or any(tenant.has_credentials for _, tenant in tenants)
        tenants_are_good = all(fault.place[:1] != ("tenants",) for fault in self._document.faults)
        if tenants_are_good and not anybody and not is_loopback(host):
            what = "would let other machines in without a token; write tenants[].tokens, or use 127.0.0.1"
            self._document.fault(("listen",), what)
        for place, tenant in tenants:
            if not tenant.has_credentials and not logins and (anybody or self.tenants != _OPEN):
                what = "has no tokens, so nobody can speak for it; write `tokens: [{token_file: ...}]`"
                self._document.fault(place, what)
        check_unique(tenants, self._document)

    def limits(self, limits: Limits) -> None:
        """Check that the largest body can be taken in."""
        if limits.budget_bytes < limits.max_body_bytes:
            what = "is smaller than limits.max_body, so the largest webhooks could never be taken in"
            self._document.fault(("limits", "budget"), what)

    def sources(self) -> tuple[Source, ...]:
        """Return the sources; check that none stands twice."""
        found: dict[tuple[str, str], Source] = {}
        for place, entry in self._parts.entries("sources", SourceEntry):
            tenant = entry.tenant or self.tenants[0]
            if (tenant, entry.name) in found:
                self._document.fault((*place, "name"), "is the name of an earlier entry; remove one")
            found[tenant, entry.name] = Source(
                tenant=tenant,
                name=entry.name,
                repeat_interval_s=entry.repeat_interval_s,
                group_interval_s=entry.group_interval_s,
            )
        return tuple(found.values())

    def prometheus(self) -> tuple[tuple[str, str], ...]:
        """Return the tenant and the address of each Prometheus that is asked for a service graph."""
        entries = [entry for _, entry in self._parts.entries("sources", SourceEntry)]
        asked = [(entry.tenant or self.tenants[0], entry.prometheus) for entry in entries]
        return tuple(dict.fromkeys((tenant, url) for tenant, url in asked if url))

    def series(self) -> tuple[SeriesSettings, ...]:
        """Return the series that are watched; check that each has a name of its own and somebody to ask."""
        entries = [entry for _, entry in self._parts.entries("sources", SourceEntry)]
        servers = {entry.name: entry for entry in entries if entry.prometheus}
        only = next(iter(servers)) if len(servers) == 1 else None
        found: dict[str, SeriesSettings] = {}
        for number, entry in enumerate(self._parts.section("analysis", Analysis).series):
            place = ("analysis", "series", number)
            if entry.name in found:
                self._document.fault((*place, "name"), "is the name of an earlier entry; names are unique")
            server = servers.get(entry.source or only or "")
            if server is None or server.prometheus is None:
                self._document.fault(*self._nobody_to_ask(place, entry.source, list(servers)))
                continue
            found[entry.name] = SeriesSettings(
                tenant=server.tenant or self.tenants[0], source=server.name, name=entry.name, query=entry.query,
                url=server.prometheus, step_s=entry.step_s, labels=entry.labels,
            )  # fmt: skip
        return tuple(found.values())

    @staticmethod
    def _nobody_to_ask(
        place: tuple[str | int, ...], source: str | None, servers: Sequence[str]
    ) -> tuple[tuple[str | int, ...], str]:
        """Return where a series lacks its Prometheus, and what to write."""
        if source is not None:
            return (*place, "source"), (
                "names no source with a Prometheus; write `prometheus: url` in that entry of sources"
            )
        if servers:
            return place, f"does not say whom to ask; write `source:` with one of {', '.join(servers)}"
        return place, "has nobody to ask; write `prometheus: url` in an entry of sources"

    def polls(self) -> tuple[PollSettings, ...]:
        """Return the sources whose Alertmanagers are asked."""
        return tuple(
            PollSettings(
                tenant=entry.tenant or self.tenants[0],
                source=entry.name,
                alertmanagers=tuple(entry.alertmanagers),
                interval_s=entry.poll_interval_s,
                group_interval_s=entry.group_interval_s,
                receiver=entry.receiver,
                username=entry.username,
                password=entry.given_password,
                token=entry.given_token,
                ca_file=entry.ca_file,
            )
            for _, entry in self._parts.entries("sources", SourceEntry)
            if entry.alertmanagers
        )

    def routes(self) -> tuple[Route, ...]:
        """Return the routes; without any in the file, everything goes everywhere."""
        entries = self._parts.entries("routes", RouteEntry)
        if self._parts.has("routes"):
            return tuple(_route(entry) for _, entry in entries)
        return (Route(to=tuple(self._destinations)),) if self._destinations else ()

    def notes(self, kinds: Mapping[str, DestinationKind]) -> tuple[str, ...]:
        """Return what is allowed and still looks like a mistake."""
        return self._notes_on_grouping() + self._notes_on_redacting() + self._notes_on_routes(kinds)

    def _notes_on_redacting(self) -> tuple[str, ...]:
        """Say which labels are taken that thinking lives on."""
        severity = self._parts.section("analysis", Analysis).severity_label
        lost = {
            "alertname": "alerts are told apart by it, and named after it",
            severity: "without it every alert has analysis.unknown_severity",
        }
        rules = self._parts.section("redact", Redaction).terms.labels
        return tuple(
            f"redact.labels: takes the label {name}: {why}"
            for name, why in lost.items()
            if takes(rules, name)
        )

    def _notes_on_grouping(self) -> tuple[str, ...]:
        analysis = self._parts.section("analysis", Analysis)
        if analysis.grouping != "linker" or analysis.models:
            return ()
        return ("analysis.grouping: linker is learned with the models, which `models: false` switches off",)

    def _notes_on_routes(self, kinds: Mapping[str, DestinationKind]) -> tuple[str, ...]:
        if not self._destinations:
            return (
                "destinations: there is none, so incidents go nowhere; leave the key out for a file of them",
            )
        if not self._parts.has("routes"):
            return ()
        used = {name for _, name in self._parts.mentioned("routes", "to")}
        used |= {name for _, name in self._parts.mentioned("destinations", "fallback")}
        unused = tuple(
            f"destinations.{name}: no route leads here, so it gets nothing; name it in routes[].to"
            for name in self._destinations
            if name not in used
        )
        return unused + self._vain_reminders(kinds)

    def _vain_reminders(self, kinds: Mapping[str, DestinationKind]) -> tuple[str, ...]:
        names = {place[:2]: name for place, name in self._parts.mentioned("destinations", "name")}
        pagers = {
            names.get(place[:2])
            for place, kind in self._parts.mentioned("destinations", "kind")
            if kind in kinds and kinds[kind].caps.pages
        }
        return tuple(
            f"routes[{place[1]}].repeat: reminds nobody, since a pager is not sent reminders (it has its own); "
            "add a chat to `to`, or take it out"
            for place, entry in self._parts.entries("routes", RouteEntry)
            if entry.repeat_s and set(entry.to) <= pagers
        )

    def _known(self, key: str, word: str, known: Sequence[str], what: str) -> None:
        for place, name in self._parts.mentioned(key, word):
            if name not in known:
                self._document.fault(place, unknown(name, known, what))

    def _unique(self, key: str) -> None:
        first: dict[str, int] = {}
        for place, name in self._parts.mentioned(key, "name"):
            line = self._document.line(place)
            if name in first:
                what = f"is the name of another entry too (line {first[name]}); names are unique"
                self._document.fault(place, what)
            first.setdefault(name, line)


def _route(entry: RouteEntry) -> Route:
    return Route(
        match=tuple(entry.match),
        min_anomaly=entry.min_anomaly,
        kinds=tuple(entry.kinds),
        origin=tuple(entry.origin),
        to=tuple(dict.fromkeys(entry.to)),
        wait_s=entry.wait_s,
        repeat_s=entry.repeat_s,
        tenant=entry.tenant,
    )


def schema(kinds: Mapping[str, DestinationKind]) -> dict[str, Any]:
    """Return the JSON schema of the whole configuration; editors complete and check YAML with it."""
    whole = Configuration.model_json_schema(by_alias=True)
    head = DestinationHead.model_json_schema(by_alias=True)
    blocks = []
    for kind, described in sorted(kinds.items()):
        if getattr(described, "lacks", ""):
            continue
        block = described.Settings.model_json_schema(by_alias=True, ref_template=f"#/$defs/{kind}.{{model}}")
        for name, definition in block.pop("$defs", {}).items():
            whole["$defs"][f"{kind}.{name}"] = definition
        block["properties"]["kind"] = {
            "const": kind,
            "description": block["properties"]["kind"]["description"],
        }
        more = DestinationHead.model_fields["redact"].description
        block["properties"]["redact"] = {"$ref": "#/$defs/RedactMore", "description": more}
        for name in ("fallback", "fallback_after"):
            block["properties"][name] = head["properties"][name]
        block["required"] = sorted({*block.get("required", []), "name", "kind"})
        blocks.append(block)
    whole["properties"]["destinations"]["items"] = {"oneOf": blocks}
    whole["title"] = "Tocsin configuration"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole}
