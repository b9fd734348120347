"""The tables: a star with incidents, their events, their alerts and forecasts as facts.

Rules: a step of `STEPS` never changes once it was released; what is new is a step of its own. All names are qualified,
so that no `search_path` leads elsewhere.

Decision: the keys of dimensions are their names (`tenant` first), not numbers. A number has to be looked up before a
fact can be written, by everybody who writes at once; and a fact that holds the name is read without a join.
Decision: facts refer to dimensions by foreign keys, because Metabase, Superset and Power BI draw their joins from them.
What belongs to an incident goes with it (`on delete cascade`), so that old incidents are removed by one statement.
"""

from __future__ import annotations

#: Of the dates that `dim_date` has; what is outside of them has no row there and is not refused.
FIRST_DAY, LAST_DAY = "2020-01-01", "2049-12-31"

_STAR = """
create table {schema}.dim_date (
    day date primary key, year smallint not null, quarter smallint not null, month smallint not null,
    week smallint not null, weekday smallint not null, is_weekend boolean not null
);
insert into {schema}.dim_date
    select day, extract(year from day), extract(quarter from day), extract(month from day), extract(week from day),
        extract(isodow from day), extract(isodow from day) > 5
    from (select generate_series(timestamp '{first}', timestamp '{last}', interval '1 day')::date) as days (day);
create table {schema}.dim_severity (severity text primary key, rank smallint not null);
insert into {schema}.dim_severity values ('info', 0), ('warning', 1), ('critical', 2);
create table {schema}.dim_team (
    tenant text not null, team text not null, first_seen_at timestamptz not null, last_seen_at timestamptz not null,
    primary key (tenant, team)
);
create table {schema}.dim_service (
    tenant text not null, service text not null, team text, namespace text, cluster text,
    first_seen_at timestamptz not null, last_seen_at timestamptz not null,
    primary key (tenant, service)
);
create table {schema}.dim_rule (
    tenant text not null, rule text not null, severity text not null, team text, runbook_url text,
    first_seen_at timestamptz not null, last_seen_at timestamptz not null,
    primary key (tenant, rule)
);
create table {schema}.fact_incident (
    tenant text not null, incident text not null, seq integer not null, changed_at timestamptz not null,
    state text not null, origin text not null, severity text not null references {schema}.dim_severity,
    title text not null, summary text not null,
    opened_at timestamptz not null, closed_at timestamptz, acknowledged_at timestamptz,
    opened_on date generated always as ((opened_at at time zone 'UTC')::date) stored,
    time_to_acknowledge_s double precision
        generated always as (extract(epoch from acknowledged_at - opened_at)) stored,
    time_to_close_s double precision generated always as (extract(epoch from closed_at - opened_at)) stored,
    anomaly double precision, anomaly_reason text,
    rule text, team text, service text, namespace text, cluster text, place text,
    alerts_total integer not null, alerts_firing integer not null, alerts_demoted integer not null,
    alerts_unlisted integer not null, firings integer not null, escalations integer not null,
    events integer not null default 0, reopened integer not null default 0,
    root_rule text, root_confidence double precision, root_why text,
    merged_into text, split_from text, degraded boolean not null, expired boolean not null, url text,
    primary key (tenant, incident),
    foreign key (tenant, rule) references {schema}.dim_rule,
    foreign key (tenant, team) references {schema}.dim_team,
    foreign key (tenant, service) references {schema}.dim_service
);
create index fact_incident_opened on {schema}.fact_incident (opened_at);
create table {schema}.fact_incident_event (
    event_id uuid primary key, tenant text not null, incident text not null, seq integer not null,
    kind text not null, at timestamptz not null,
    state text not null, severity text not null references {schema}.dim_severity,
    alerts_total integer not null, alerts_firing integer not null, degraded boolean not null,
    author text, note text,
    foreign key (tenant, incident) references {schema}.fact_incident on delete cascade
);
create index fact_incident_event_incident on {schema}.fact_incident_event (tenant, incident, seq);
create index fact_incident_event_at on {schema}.fact_incident_event (at);
create table {schema}.fact_alert (
    tenant text not null, incident text not null, source text not null, fingerprint text not null,
    seq integer not null, rule text not null, severity text not null references {schema}.dim_severity,
    team text, service text, namespace text, cluster text, place text,
    starts_at timestamptz not null, ends_at timestamptz,
    lasted_s double precision generated always as (extract(epoch from ends_at - starts_at)) stored,
    firings integer not null, demoted boolean not null, expired boolean not null, disputed boolean not null,
    suppressed text, why text not null, summary text, labels jsonb not null,
    primary key (tenant, incident, source, fingerprint),
    foreign key (tenant, incident) references {schema}.fact_incident on delete cascade,
    foreign key (tenant, rule) references {schema}.dim_rule,
    foreign key (tenant, team) references {schema}.dim_team,
    foreign key (tenant, service) references {schema}.dim_service
);
create index fact_alert_rule on {schema}.fact_alert (tenant, rule);
create index fact_alert_starts on {schema}.fact_alert (starts_at);
create table {schema}.fact_forecast (
    event_id uuid primary key, tenant text not null, at timestamptz not null, until timestamptz not null,
    aim text not null, name text, probability double precision not null, reference double precision not null,
    published boolean not null
);
create index fact_forecast_at on {schema}.fact_forecast (at);
"""

#: How the tables came to be, in order; the number of the last is the version.
STEPS: tuple[str, ...] = (_STAR,)


def setup(schema: str) -> str:
    """Return one statement that makes the schema, or brings it to the newest version; repeated, it does nothing.

    Several may do it at once: the others wait. A role that may make nothing can run it where everything is there.
    """
    steps = "".join(
        f"if not exists (select from {schema}.schema_version where version = {number}) then\n"
        f"{step.strip().format(schema=schema, first=FIRST_DAY, last=LAST_DAY)}\n"
        f"insert into {schema}.schema_version values ({number});\n"
        "end if;\n"
        for number, step in enumerate(STEPS, start=1)
    )
    return (
        "do $tocsin$\nbegin\n"
        f"perform pg_advisory_xact_lock(hashtextextended('tocsin {schema}', 0));\n"
        f"if not exists (select from pg_catalog.pg_namespace where nspname = '{schema}') then\n"
        f"create schema {schema};\nend if;\n"
        f"if to_regclass('{schema}.schema_version') is null then\n"
        f"create table {schema}.schema_version (version integer primary key, since timestamptz default now());\n"
        "end if;\n"
        f"{steps}end $tocsin$;\n"
    )
