-- The tables of a destination of kind postgres (docs/bi.md), for create: false. To be run again after an upgrade.
do $tocsin$
begin
perform pg_advisory_xact_lock(hashtextextended('tocsin tocsin', 0));
if not exists (select from pg_catalog.pg_namespace where nspname = 'tocsin') then
create schema tocsin;
end if;
if to_regclass('tocsin.schema_version') is null then
create table tocsin.schema_version (version integer primary key, since timestamptz default now());
end if;
if not exists (select from tocsin.schema_version where version = 1) then
create table tocsin.dim_date (
    day date primary key, year smallint not null, quarter smallint not null, month smallint not null,
    week smallint not null, weekday smallint not null, is_weekend boolean not null
);
insert into tocsin.dim_date
    select day, extract(year from day), extract(quarter from day), extract(month from day), extract(week from day),
        extract(isodow from day), extract(isodow from day) > 5
    from (select generate_series(timestamp '2020-01-01', timestamp '2049-12-31', interval '1 day')::date) as days (day);
create table tocsin.dim_severity (severity text primary key, rank smallint not null);
insert into tocsin.dim_severity values ('info', 0), ('warning', 1), ('critical', 2);
create table tocsin.dim_team (
    tenant text not null, team text not null, first_seen_at timestamptz not null, last_seen_at timestamptz not null,
    primary key (tenant, team)
);
create table tocsin.dim_service (
    tenant text not null, service text not null, team text, namespace text, cluster text,
    first_seen_at timestamptz not null, last_seen_at timestamptz not null,
    primary key (tenant, service)
);
create table tocsin.dim_rule (
    tenant text not null, rule text not null, severity text not null, team text, runbook_url text,
    first_seen_at timestamptz not null, last_seen_at timestamptz not null,
    primary key (tenant, rule)
);
create table tocsin.fact_incident (
    tenant text not null, incident text not null, seq integer not null, changed_at timestamptz not null,
    state text not null, origin text not null, severity text not null references tocsin.dim_severity,
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
    foreign key (tenant, rule) references tocsin.dim_rule,
    foreign key (tenant, team) references tocsin.dim_team,
    foreign key (tenant, service) references tocsin.dim_service
);
create index fact_incident_opened on tocsin.fact_incident (opened_at);
create table tocsin.fact_incident_event (
    event_id uuid primary key, tenant text not null, incident text not null, seq integer not null,
    kind text not null, at timestamptz not null,
    state text not null, severity text not null references tocsin.dim_severity,
    alerts_total integer not null, alerts_firing integer not null, degraded boolean not null,
    author text, note text,
    foreign key (tenant, incident) references tocsin.fact_incident on delete cascade
);
create index fact_incident_event_incident on tocsin.fact_incident_event (tenant, incident, seq);
create index fact_incident_event_at on tocsin.fact_incident_event (at);
create table tocsin.fact_alert (
    tenant text not null, incident text not null, source text not null, fingerprint text not null,
    seq integer not null, rule text not null, severity text not null references tocsin.dim_severity,
    team text, service text, namespace text, cluster text, place text,
    starts_at timestamptz not null, ends_at timestamptz,
    lasted_s double precision generated always as (extract(epoch from ends_at - starts_at)) stored,
    firings integer not null, demoted boolean not null, expired boolean not null, disputed boolean not null,
    suppressed text, why text not null, summary text, labels jsonb not null,
    primary key (tenant, incident, source, fingerprint),
    foreign key (tenant, incident) references tocsin.fact_incident on delete cascade,
    foreign key (tenant, rule) references tocsin.dim_rule,
    foreign key (tenant, team) references tocsin.dim_team,
    foreign key (tenant, service) references tocsin.dim_service
);
create index fact_alert_rule on tocsin.fact_alert (tenant, rule);
create index fact_alert_starts on tocsin.fact_alert (starts_at);
create table tocsin.fact_forecast (
    event_id uuid primary key, tenant text not null, at timestamptz not null, until timestamptz not null,
    aim text not null, name text, probability double precision not null, reference double precision not null,
    published boolean not null
);
create index fact_forecast_at on tocsin.fact_forecast (at);
insert into tocsin.schema_version values (1);
end if;
end $tocsin$;
