"""What Tocsin says about itself: every metric name and every log event, with its meaning, in one place.

Rules: a metric or log event that is not in the tables below does not exist (a wrong metric raises; a test
reads the source for events and keeps docs/metrics.md equal). Labels come from bounded sets only:
destinations, reasons, kinds; never an alert's label values. No secret enters a line: addresses are cut
after the host, and what follows `Bearer` and its kin is replaced, also in the tracebacks of libraries that
we did not write.

Decision: an own `CollectorRegistry` per process and a table of names, rather than module-level metrics: two
fronts in one test do not share counters, and the docs are written from what the code uses.

Rooms: the tables and the counters are here, `lines` writes log lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import prometheus_client as prometheus

from bridge.delivery import Backlog
from bridge.telemetry.lines import JsonLines, Readable, mask, set_up_logging

__all__ = [
    "EVENTS",
    "METRICS",
    "DispatchCounters",
    "IntakeCounters",
    "JsonLines",
    "Metric",
    "Readable",
    "Telemetry",
    "count_outcome",
    "document",
    "mask",
    "set_up_logging",
]

# ---- metrics ---------------------------------------------------------------------------------------------

Kind = Literal["counter", "gauge", "histogram"]
#: From a fast disk's fsync to one that is in trouble.
COMMIT_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
ATTEMPT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCH_BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)


class Metric(NamedTuple):
    """One metric as `/metrics` shows it."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


METRICS: tuple[Metric, ...] = (
    Metric("tocsin_build_info", "gauge", "Always 1; says which release runs.", ("version", "python")),
    Metric("tocsin_ready", "gauge", "1 while the intake can commit."),
    Metric("tocsin_config_reload_ok", "gauge", "1 if the configuration was good when last read, else 0."),
    # Intake.
    Metric("tocsin_webhooks_total", "counter", "Webhooks answered 200, each after its fsync."),
    Metric("tocsin_alerts_received_total", "counter", "Alerts inside those webhooks, resends included."),
    Metric("tocsin_webhook_bytes_total", "counter", "Bytes of those webhooks."),
    Metric(
        "tocsin_intake_rejected_total",
        "counter",
        "Requests that were not answered 200, by reason. 4xx reasons are the sender's fault, the others are "
        "answered 503 and come again.",
        ("reason",),
    ),
    Metric(
        "tocsin_admissions_total",
        "counter",
        "Requests by what their sender showed (none, loopback, token, password, jwt, signature, certificate): "
        "accepted, refused, or undecided, since the keys of the issuer cannot be had. Why is in the log.",
        ("shape", "result"),
    ),
    Metric(
        "tocsin_key_sets_total",
        "counter",
        "Sets of public keys (`jwks_url`) that were asked for: read or failed.",
        ("result",),
    ),
    Metric("tocsin_connections", "gauge", "Connections that are open, idle ones included."),
    Metric(
        "tocsin_connections_closed_total",
        "counter",
        "Connections closed by us: `headless` sent no request within 20 s, `idle` were the oldest of too many that "
        "waited, `slow` took next to nothing of an answer for a minute, `crowded` came when there were too many.",
        ("reason",),
    ),
    Metric("tocsin_commit_seconds", "histogram", "One group commit of the inbox.", (), COMMIT_BUCKETS_S),
    Metric("tocsin_inbox_queued_bytes", "gauge", "Bytes of webhooks that wait for their commit."),
    Metric(
        "tocsin_inbox_clock_ahead_seconds",
        "gauge",
        "By how much the newest webhook's time, which never goes back, is ahead of the machine's clock.",
    ),
    Metric("tocsin_inbox_backlog_rows", "gauge", "Rows committed and not yet understood by the analyst."),
    # What is true now.
    Metric(
        "tocsin_polls_total",
        "counter",
        "Alertmanagers asked what is true now: answered, young (it has just started, so that nothing is concluded from "
        "what it does not list) or failed.",
        ("source", "result"),
    ),
    Metric(
        "tocsin_poll_seconds", "histogram", "One Alertmanager asked and understood.", (), ATTEMPT_BUCKETS_S
    ),
    Metric(
        "tocsin_poll_rows_total",
        "counter",
        "Rounds over all Alertmanagers of a source that had news.",
        ("source",),
    ),
    # Understanding.
    Metric("tocsin_alerts_total", "counter", "Alerts understood, by why they are news.", ("change",)),
    Metric(
        "tocsin_reconciled_total",
        "counter",
        "Alerts by what Alertmanager's API and event recorder changed: opened (no webhook had named it), ended (no "
        "resolve had come), settled and taken_back (firings in doubt), suppressed, unsuppressed, hidden (held back and "
        "never told of).",
        ("what",),
    ),
    Metric(
        "tocsin_recorded_events_total",
        "counter",
        "Events of Alertmanager's event recorder, by kind.",
        ("event",),
    ),
    Metric(
        "tocsin_redactions_total",
        "counter",
        "Texts taken out of what came in before anything was kept of it, by what found them: secrets, email, card, ip, "
        "phone, or a rule for a label or an annotation.",
        ("kind",),
    ),
    Metric(
        "tocsin_quota_exceeded",
        "gauge",
        "1 while a tenant exceeds a quota: of bytes webhooks get 503, of others its alerts are grouped by time alone.",
        ("tenant", "quota"),
    ),
    Metric(
        "tocsin_quota_refused_total",
        "counter",
        "Webhooks answered 503 since a tenant exceeds a quota.",
        ("tenant", "quota"),
    ),
    Metric(
        "tocsin_tenants_behind",
        "gauge",
        "Tenants of whom webhooks wait that are older than others' which were understood: each has its share.",
    ),
    Metric("tocsin_incidents_open", "gauge", "Incidents in which something fires."),
    Metric("tocsin_incident_events_total", "counter", "Incident events made, by kind.", ("kind",)),
    Metric(
        "tocsin_feedback_total",
        "counter",
        "What people said of incidents, by kind; `refused` is what could not be done.",
        ("kind",),
    ),
    Metric(
        "tocsin_grouping_tenants",
        "gauge",
        "Tenants by how their alerts are grouped: bursts (the fallback, by time alone), entities (by what alerts "
        "share) or linker (by what was learned).",
        ("way",),
    ),
    Metric(
        "tocsin_grouping_exam_f1",
        "gauge",
        "How well each way of grouping did in the newest exams, pairwise F1 averaged over the tenants that had one; no "
        "series before the first.",
        ("way",),
    ),
    Metric(
        "tocsin_grouping_verdict_age_seconds",
        "gauge",
        "Age of the oldest verdict on how a tenant's alerts are grouped, in the webhooks' time; 0 before the first.",
    ),
    Metric(
        "tocsin_regrouped_total",
        "counter",
        "What clustering the open window anew did to incidents: merged, split and moved; `advice` was left undone, "
        "since people had been called for the incident.",
        ("action",),
    ),
    Metric(
        "tocsin_quarantined_total",
        "counter",
        "Set aside with their bytes: `content` for alerts and bodies that make no sense, `row` for webhooks "
        "that the analyst could not get over.",
        ("what",),
    ),
    Metric(
        "tocsin_series_watched",
        "gauge",
        "Series that are watched: `samples` of a Prometheus, `counts` of what fires.",
        ("what",),
    ),
    Metric(
        "tocsin_anomalies_total",
        "counter",
        "Anomalies by what became of them: `opened` an incident or opened one again, `raised` the surprise of an "
        "incident of alerts, `often`: the series is as strange more often than the budget allows, and nothing is told; "
        "`untold` were beyond the fifty of a tenant that have incidents at a time.",
        ("what",),
    ),
    Metric(
        "tocsin_forecasts_total",
        "counter",
        "Forecasts that were made: `published` by models that have earned it, `silent` for want of skill.",
        ("outcome",),
    ),
    Metric("tocsin_samples_total", "counter", "Samples of configured series that were taken in."),
    Metric(
        "tocsin_samples_refused_total",
        "counter",
        "Samples that were left out: not_a_number, late (not newer than the newest of its series), too_many (series of "
        "one query), too_long (labels).",
        ("reason",),
    ),
    Metric("tocsin_degraded", "gauge", "1 while incidents are decided without models."),
    Metric("tocsin_analyst_up", "gauge", "1 while the analyst process is ready."),
    Metric(
        "tocsin_analyst_restarts_total",
        "counter",
        "Times the analyst was started anew, by what ended it: silent, stalled, crashed, killed or not_started.",
        ("reason",),
    ),
    Metric(
        "tocsin_analyst_lag_seconds",
        "gauge",
        "Age of the oldest inbox row that is not yet understood; 0 when there is none.",
    ),
    Metric("tocsin_analyst_batch_seconds", "histogram", "One batch, read to committed.", (), BATCH_BUCKETS_S),
    Metric("tocsin_analyst_resident_bytes", "gauge", "Memory of the analyst process, without its models."),
    Metric("tocsin_models_up", "gauge", "1 while the models process answers."),
    Metric("tocsin_heartbeat_missing", "gauge", "Heartbeats that are overdue now."),
    # Delivery.
    Metric(
        "tocsin_deliveries_total",
        "counter",
        "Events by what became of them: delivered, duplicate, pending, retry, split, blocked, dead, "
        "superseded, not_wanted, diverted.",
        ("destination", "result"),
    ),
    Metric("tocsin_delivery_seconds", "histogram", "One attempt.", ("destination",), ATTEMPT_BUCKETS_S),
    Metric(
        "tocsin_delivery_concurrency", "gauge", "Requests that may be under way at once.", ("destination",)
    ),
    Metric(
        "tocsin_delivery_backlog", "gauge", "Events that a destination does not have yet.", ("destination",)
    ),
    Metric(
        "tocsin_delivery_oldest_timestamp_seconds",
        "gauge",
        "When the oldest of those was made, Unix time; 0 when there is none.",
        ("destination",),
    ),
    Metric("tocsin_dead_letters", "gauge", "Events given up and kept for replay.", ("destination",)),
    Metric(
        "tocsin_dead_letters_lost",
        "gauge",
        "Dead letters that were deleted unretried, since the store was made.",
        ("destination",),
    ),
    Metric("tocsin_destination_blocked", "gauge", "1 while a destination refuses us.", ("destination",)),
    # The machine and the jobs.
    Metric("tocsin_disk_free_bytes", "gauge", "Room left where the stores are."),
    Metric("tocsin_erasures_total", "counter", "Erasures that thinking has obeyed."),
    Metric("tocsin_job_runs_total", "counter", "Runs of a periodic job, by result.", ("job", "result")),
    Metric(
        "tocsin_service_graph_polls_total",
        "counter",
        "Questions to a Prometheus who calls whom, by result.",
        ("result",),
    ),
    Metric(
        "tocsin_service_graph_edges", "gauge", "Calls between services that were imported and are in use."
    ),
    Metric(
        "tocsin_series_polls_total",
        "counter",
        "Questions to a Prometheus for samples of a configured series, by result.",
        ("result",),
    ),
    Metric("tocsin_own_alerts_firing", "gauge", "Alerts that Tocsin raises about itself right now."),
)


class Telemetry:
    """The metrics of one process. All methods may be called from any thread.

    A name that is not in `METRICS`, or is of another kind, raises KeyError.
    """

    def __init__(self) -> None:
        self.registry = prometheus.CollectorRegistry(auto_describe=True)
        prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]  # a `_created` twin per series tells nobody anything
        self._counters: dict[str, prometheus.Counter] = {}
        self._gauges: dict[str, prometheus.Gauge] = {}
        self._histograms: dict[str, prometheus.Histogram] = {}
        for metric in METRICS:
            self._make(metric)
        prometheus.ProcessCollector(registry=self.registry)

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Count `amount` more."""
        made = self._counters[name]
        (made.labels(**labels) if labels else made).inc(amount)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        made = self._gauges[name]
        (made.labels(**labels) if labels else made).set(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Put one observation into a histogram."""
        made = self._histograms[name]
        (made.labels(**labels) if labels else made).observe(value)

    def watch(self, name: str, value: Callable[[], float]) -> None:
        """Let an unlabelled gauge ask `value` whenever it is read."""
        self._gauges[name].set_function(value)

    def forget(self, name: str, **labels: str) -> None:
        """Drop a gauge's series that match `labels`, such as those of a destination that is gone."""
        self._gauges[name].remove_by_labels(labels)

    def forget_destination(self, destination: str) -> None:
        """Drop all gauges of a destination that is no longer configured; its counters stay."""
        for metric in METRICS:
            if metric.kind == "gauge" and "destination" in metric.labels:
                self.forget(metric.name, destination=destination)

    def value(self, name: str, **labels: str) -> float:
        """Return what a series shows now; 0 where it was never touched."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def render(self) -> bytes:
        """Return the text that `/metrics` answers with."""
        return prometheus.generate_latest(self.registry)

    def _make(self, metric: Metric) -> None:
        name, meaning, labels = metric.name, metric.meaning, metric.labels
        if metric.kind == "counter":
            self._counters[name] = prometheus.Counter(name, meaning, labels, registry=self.registry)
        elif metric.kind == "gauge":
            self._gauges[name] = prometheus.Gauge(name, meaning, labels, registry=self.registry)
        else:
            self._histograms[name] = prometheus.Histogram(
                name, meaning, labels, registry=self.registry, buckets=metric.buckets
            )


class IntakeCounters:
    """Counts what the intake says, as `bridge.intake.IntakeMeter`. On the path of every webhook."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def accepted(self, alerts: int, size_bytes: int) -> None:
        """Hear of a webhook that was committed."""
        self._telemetry.add("tocsin_webhooks_total")
        self._telemetry.add("tocsin_alerts_received_total", alerts)
        self._telemetry.add("tocsin_webhook_bytes_total", size_bytes)

    def refused(self, reason: str) -> None:
        """Hear of a request that was not answered 200."""
        self._telemetry.add("tocsin_intake_rejected_total", reason=reason)


class DispatchCounters:
    """Counts what the dispatcher says, as `bridge.dispatch.DispatchMeter`."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def counted(self, destination: str, result: str, events: int) -> None:
        """Count events by what became of them."""
        self._telemetry.add("tocsin_deliveries_total", events, destination=destination, result=result)

    def attempted(self, destination: str, seconds: float) -> None:
        """Observe how long one attempt took."""
        self._telemetry.observe("tocsin_delivery_seconds", seconds, destination=destination)

    def backlog(self, destination: str, backlog: Backlog) -> None:
        """Show what a destination does not have yet."""
        oldest_s = 0.0 if backlog.oldest_at is None else backlog.oldest_at.timestamp()
        for name, value in (
            ("tocsin_delivery_backlog", backlog.waiting),
            ("tocsin_delivery_oldest_timestamp_seconds", oldest_s),
            ("tocsin_dead_letters", backlog.dead),
            ("tocsin_dead_letters_lost", backlog.lost),
        ):
            self._telemetry.set(name, value, destination=destination)

    def blocked(self, destination: str, *, is_blocked: bool) -> None:
        """Show whether a destination refuses us."""
        self._telemetry.set("tocsin_destination_blocked", float(is_blocked), destination=destination)

    def concurrency(self, destination: str, limit: int) -> None:
        """Show how many requests may be under way."""
        self._telemetry.set("tocsin_delivery_concurrency", limit, destination=destination)


def count_outcome(telemetry: Telemetry, counts: Mapping[str, int]) -> None:
    """Add what the pipeline counted in one batch (`Outcome.counts`); a name it does not know adds nothing."""
    for name, number in counts.items():
        family, _, what = name.partition(":")
        if family in _OUTCOME:
            metric, label = _OUTCOME[family]
            telemetry.add(metric, number, **({label: what or "content"} if label else {}))


#: What the pipeline counts as `family:what`, and the metric and label it becomes, "" for none.
_OUTCOME: dict[str, tuple[str, str]] = {
    "anomaly": ("tocsin_anomalies_total", "what"),
    "change": ("tocsin_alerts_total", "change"),
    "erased": ("tocsin_erasures_total", ""),
    "event": ("tocsin_incident_events_total", "kind"),
    "feedback": ("tocsin_feedback_total", "kind"),
    "forecast": ("tocsin_forecasts_total", "outcome"),
    "quarantined": ("tocsin_quarantined_total", "what"),
    "reconciled": ("tocsin_reconciled_total", "what"),
    "recorded": ("tocsin_recorded_events_total", "event"),
    "refused": ("tocsin_samples_refused_total", "reason"),
    "samples": ("tocsin_samples_total", ""),
    "redacted": ("tocsin_redactions_total", "kind"),
    "regroup": ("tocsin_regrouped_total", "action"),
}


# ---- logs ------------------------------------------------------------------------------------------------

#: Every `event` a log line of ours may carry. Lines of libraries carry `library`.
EVENTS: dict[str, str] = {
    "library": "Something that a library logged at WARNING or above.",
    # The front.
    "service_graph_unread": "A Prometheus cannot be asked who calls whom; what was known stays.",
    "samples_unread": "Samples of a configured series cannot be had: one line when that begins.",
    "samples_recovered": "Samples of a configured series come again.",
    "front_ready": "The intake accepts webhooks.",
    "front_stopping": "A signal asked for the end; nothing new is accepted.",
    "front_failed": "The front cannot run, or one of its workers died; the process ends.",
    "front_stopped": "Everything acknowledged is on the disk and both processes have ended.",
    "front_cut_off": "The end took too long and was made; what was acknowledged is on the disk.",
    "state_unread": "How far the analyst is could not be read at the start.",
    "inbox_behind": "inbox.db held less than was already read; its numbers go on above that.",
    "poll_failed": "An Alertmanager cannot be asked what is true now: one line when that begins.",
    "poll_recovered": "An Alertmanager answers again.",
    "open_to_loopback": "No credentials are configured: this machine may do everything, nobody else anything.",
    "turned_away": "Requests were turned away: one line a minute for each kind of credential, with the reason.",
    "keys_unread": "The public keys of a token issuer cannot be had: one line when that begins.",
    "keys_recovered": "The public keys of a token issuer can be had again.",
    "certificate_changed": "A changed certificate is in force for new connections.",
    "certificate_refused": "A changed certificate cannot be used; the old one stays.",
    "config_reloaded": "A changed configuration is in force.",
    "config_note": "The configuration allows something that is easily a mistake.",
    "config_refused": "A changed configuration is bad; the old one stays in force.",
    "own_alert": "Tocsin raised or resolved an alert about itself.",
    # The analyst.
    "analyst_started": "The analyst process was started.",
    "analyst_ready": "The analyst has loaded its state and understands webhooks.",
    "analyst_killed": "The analyst was silent for too long and was killed.",
    "analyst_not_started": "The analyst process could not be started; it is tried again.",
    "analyst_ended": "The analyst process ended without being asked to.",
    "analyst_trouble": "The analyst says that it cannot go on for now.",
    "analyst_stopped": "The analyst finished its batch and ended as asked.",
    "store_damaged": "A store is broken. Tocsin begins anew with a new one, by itself.",
    "store_renewed": "A broken store was moved aside and a new one begun; what could be read is in it.",
    "state_lost": "state.db was broken; it is kept aside and begun anew from what the inbox still has.",
    "analyst_unclear": "The analyst said something that is not understood.",
    "batch_failed": "A batch raised an error; it is tried again one row at a time.",
    "row_set_aside": "One inbox row could not be understood and went to quarantine.",
    "models_joined": "The models work; thinking uses them from here on.",
    "models_lost": "The models do not answer; thinking goes on without them.",
    "row_lost": "A row of Tocsin's own could not be stored. Settings, vectors and fits come again; into which family a "
    "single text goes is asked with the next fit.",
    # Delivery.
    "delivery_attempt": "A destination answered, or did not: one line when what is said changes.",
    "delivery_dead": "An event was given up for a destination; it stays in the dead-letter store.",
    "delivery_diverted": "Events that a destination does not take were given to its fallback.",
    "destination_blocked": "A destination refuses us; everything for it is kept and it is probed.",
    "destination_unreachable": "A destination has not answered for a while; everything for it is kept.",
    "destination_recovered": "A destination works again.",
    "dead_letters_lost": "Dead letters were deleted to make room, or because their time was over.",
    "dispatch_bug": "A connector or sender broke its contract; the events concerned are given up or kept.",
    "dispatch_storage": "The outbox or the delivery store did not work; it is tried again.",
    "outbox_rewound": "The state was restored or begun anew; its outbox is read from the beginning.",
    "clock_set_back": "The machine's clock was set back; what waits for a destination was moved along.",
    "trouble_untold": "An alert about a destination could not be put into the inbox; it stays owed.",
    # Jobs.
    "job_failed": "A periodic job failed; it runs again at its next time.",
    "retention": "Rows whose time was over were deleted.",
    "erased": "What was to be erased is in none of the stores any more.",
    "erase_waits": "An erasure is not done yet, since a store does not work now; it is tried again.",
    "erase_failed": "An erasure could not be understood and is not made: ask for it again.",
    "disk_low": "The disk of the stores is nearly full.",
}


# ---- documentation ---------------------------------------------------------------------------------------


def document() -> str:
    """Return docs/metrics.md, which `make docs` writes."""
    metrics = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(metric.labels)} | {metric.meaning} |"
        for metric in METRICS
    ]
    events = [f"| `{event}` | {meaning} |" for event, meaning in EVENTS.items()]
    return "\n".join([*_PREFACE, *metrics, "", *_LOG_PREFACE, *events, ""])


_PREFACE = (
    "# What Tocsin says about itself",
    "",
    "Written by `make docs`; a test keeps it equal to the code.",
    "",
    "## Metrics",
    "",
    "`GET /metrics`, open to everyone who can reach the address. The usual `process_...` metrics of the",
    "front process stand beside these.",
    "",
    "| name | kind | labels | meaning |",
    "|---|---|---|---|",
)
_LOG_PREFACE = (
    "## Log events",
    "",
    "Both processes log to standard error: one JSON object a line on a pipe (`at`, `level`, `event`,",
    "`message` and what belongs to the event), readable text on a terminal.",
    "",
    "| event | meaning |",
    "|---|---|",
)
