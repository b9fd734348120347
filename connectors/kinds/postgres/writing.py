"""The statements that write a batch: each gets the records of `formats.flat` as one JSON array, `$1`.

Rules: what stands in the tables depends on which events have come, not on their order or on how often: the state of
an incident is that of its newest event (`seq` decides), what is counted over events is counted anew. Rows are written
in the order of their keys, so that two writers wait for each other and never for each other at once.

Decision: the records go in as JSON and are taken apart by the server (`jsonb_to_recordset`). One parameter instead of
ten thousand, whatever the columns are; and a record that was kept before an upgrade fits the statements after it.
"""

from __future__ import annotations

from connectors.formats.flat import ALERT_COLUMNS, COLUMNS

_RECORDS = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
_ALERTS = ", ".join(f"{name} {kind}" for name, kind in ALERT_COLUMNS.items())
#: What was sent: events of incidents, forecasts among them taken out, and their alerts.
_SENT = f"""with record as (
    select * from jsonb_to_recordset($1::text::jsonb) as r ({_RECORDS}, alerts jsonb)
), sent as (
    select * from record where kind not in ('forecast', 'recommendation')
), alert as (
    select sent.tenant, sent.incident, sent.seq, sent.at, a.*
    from sent cross join lateral jsonb_to_recordset(sent.alerts) as a ({_ALERTS}, labels jsonb)
)"""  # noqa: S608 - fixed texts only
#: Of what was sent, the events that are the newest of their incident even beside what was there.
_NEWEST = f"""{_SENT}, newest as (
    select distinct on (tenant, incident) sent.* from sent
    join {{schema}}.fact_incident as f using (tenant, incident) where f.seq = sent.seq
)"""  # noqa: S608 - fixed texts only

_TEAMS = """
insert into {schema}.dim_team as d
select tenant, team, min(at), max(at)
from (select tenant, team, at from sent union all select tenant, team, at from alert) as named
where team is not null group by tenant, team order by tenant, team
on conflict (tenant, team) do update set
    first_seen_at = least(d.first_seen_at, excluded.first_seen_at),
    last_seen_at = greatest(d.last_seen_at, excluded.last_seen_at)
where d.first_seen_at > excluded.first_seen_at or d.last_seen_at < excluded.last_seen_at
"""
_SERVICES = """
insert into {schema}.dim_service as d
select tenant, service,
    (array_agg(team order by at desc) filter (where team is not null))[1],
    (array_agg(namespace order by at desc) filter (where namespace is not null))[1],
    (array_agg(cluster order by at desc) filter (where cluster is not null))[1],
    min(at), max(at)
from (
    select tenant, service, team, namespace, cluster, at from sent
    union all select tenant, service, team, namespace, cluster, at from alert
) as named
where service is not null group by tenant, service order by tenant, service
on conflict (tenant, service) do update set
    team = case when d.last_seen_at <= excluded.last_seen_at
        then coalesce(excluded.team, d.team) else coalesce(d.team, excluded.team) end,
    namespace = case when d.last_seen_at <= excluded.last_seen_at
        then coalesce(excluded.namespace, d.namespace) else coalesce(d.namespace, excluded.namespace) end,
    cluster = case when d.last_seen_at <= excluded.last_seen_at
        then coalesce(excluded.cluster, d.cluster) else coalesce(d.cluster, excluded.cluster) end,
    first_seen_at = least(d.first_seen_at, excluded.first_seen_at),
    last_seen_at = greatest(d.last_seen_at, excluded.last_seen_at)
"""
_RULES = """
insert into {schema}.dim_rule as d
select tenant, rule,
    (array_agg(severity order by at desc))[1],
    (array_agg(team order by at desc) filter (where team is not null))[1],
    (array_agg(runbook_url order by at desc) filter (where runbook_url is not null))[1],
    min(at), max(at)
from alert group by tenant, rule order by tenant, rule
on conflict (tenant, rule) do update set
    severity = case when d.last_seen_at <= excluded.last_seen_at then excluded.severity else d.severity end,
    team = case when d.last_seen_at <= excluded.last_seen_at
        then coalesce(excluded.team, d.team) else coalesce(d.team, excluded.team) end,
    runbook_url = case when d.last_seen_at <= excluded.last_seen_at
        then coalesce(excluded.runbook_url, d.runbook_url) else coalesce(d.runbook_url, excluded.runbook_url) end,
    first_seen_at = least(d.first_seen_at, excluded.first_seen_at),
    last_seen_at = greatest(d.last_seen_at, excluded.last_seen_at)
"""

#: Of an incident, what its newest event says; `KEPT` stays where that one does not say it (merged: it has no alerts).
SAID = (
    "state", "origin", "severity", "title", "summary", "opened_at", "closed_at", "anomaly", "anomaly_reason",
    "alerts_total", "alerts_firing", "alerts_demoted", "alerts_unlisted", "firings", "escalations",
    "root_rule", "root_confidence", "root_why", "merged_into", "split_from", "degraded", "expired", "url",
)  # fmt: skip
KEPT = ("rule", "team", "service", "namespace", "cluster", "place")
_INCIDENTS = f"""
insert into {{schema}}.fact_incident as f (tenant, incident, seq, changed_at, {", ".join((*SAID, *KEPT))})
select distinct on (tenant, incident) tenant, incident, seq, at, {", ".join((*SAID, *KEPT))}
from sent order by tenant, incident, seq desc
on conflict (tenant, incident) do update set seq = excluded.seq, changed_at = excluded.changed_at,
    {", ".join(f"{name} = excluded.{name}" for name in SAID)},
    {", ".join(f"{name} = coalesce(excluded.{name}, f.{name})" for name in KEPT)}
where f.seq < excluded.seq
"""  # noqa: S608 - fixed texts only
_EVENTS = """
insert into {schema}.fact_incident_event
select event_id, tenant, incident, seq, kind, at, state, severity, alerts_total, alerts_firing, degraded, author, note
from sent order by event_id
on conflict do nothing returning event_id::text
"""
_COUNTS = """
update {schema}.fact_incident as f
set acknowledged_at = counted.acknowledged_at, events = counted.events, reopened = counted.reopened
from (
    select tenant, incident, min(at) filter (where kind = 'acknowledged') as acknowledged_at, count(*) as events,
        count(*) filter (where kind = 'reopened') as reopened
    from {schema}.fact_incident_event
    where (tenant, incident) in (select tenant, incident from sent)
    group by tenant, incident
) as counted
where f.tenant = counted.tenant and f.incident = counted.incident
    and (f.acknowledged_at, f.events, f.reopened)
        is distinct from (counted.acknowledged_at, counted.events, counted.reopened)
"""
#: An alert that the newest event lists no more went to another incident, unless its list is cut.
_GONE = """
delete from {schema}.fact_alert as a using newest
where a.tenant = newest.tenant and a.incident = newest.incident and newest.alerts_unlisted = 0
    and not exists (
        select from alert where alert.tenant = newest.tenant and alert.incident = newest.incident
            and alert.seq = newest.seq and alert.source = a.source and alert.fingerprint = a.fingerprint
    )
"""
_OF_ALERT = tuple(name for name in ALERT_COLUMNS if name not in {"source", "fingerprint", "runbook_url"})
_KEYS = "tenant, incident, source, fingerprint"
_LISTED = f"""
insert into {{schema}}.fact_alert as a ({_KEYS}, seq, {", ".join(_OF_ALERT)}, labels)
select distinct on ({_KEYS}) {_KEYS}, seq, {", ".join(f"alert.{name}" for name in _OF_ALERT)}, alert.labels
from alert join (select tenant, incident, seq from newest) as n using (tenant, incident, seq)
order by {_KEYS}, starts_at desc
on conflict ({_KEYS}) do update set seq = excluded.seq,
    {", ".join(f"{name} = excluded.{name}" for name in (*_OF_ALERT, "labels"))}
where a.seq < excluded.seq
"""  # noqa: S608 - fixed texts only
_FORECASTS = """
insert into {schema}.fact_forecast
select event_id, tenant, at, forecast_until, forecast_aim, forecast_name, forecast_probability, forecast_reference,
    forecast_published
from record where forecast_until is not null order by event_id
on conflict do nothing returning event_id::text
"""
_ALL = (
    *(_SENT + each for each in (_TEAMS, _SERVICES, _RULES, _INCIDENTS, _EVENTS, _COUNTS)),
    *(_NEWEST + each for each in (_GONE, _LISTED)),
    _SENT + _FORECASTS,
)


def statements(schema: str) -> tuple[str, ...]:
    """Return what writes one batch, in order. Those that write events return the ids of those that are new."""
    return tuple(each.format(schema=schema) for each in _ALL)
