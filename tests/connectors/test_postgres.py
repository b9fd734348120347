"""Kind `postgres` against a real PostgreSQL: what stands in the tables after whatever has come, and what goes wrong."""

# ruff: noqa: S608 - the schema is the test's own
from __future__ import annotations

import asyncio
import itertools
import random
import re
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from builders import START, at, episode, event, view
from certificates import make_certificate
from destinations import build, nasty_event
from postgreses import PASSWORD, Database, postgres
from tenacity.wait import wait_none

from bridge.analysis.announcing import announcement, recommendation
from bridge.model import Blocked, Delivered, Duplicate, Event, EventKind, Forecast, Reject, Retry, Split
from bridge.ports import Http, Refused, Rendered, Unreached
from connectors.kinds.postgres import Postgres
from connectors.transport.sql import UpsertSender

UPDATED, CLOSED, ACKNOWLEDGED = EventKind.UPDATED, EventKind.CLOSED, EventKind.ACKNOWLEDGED
NUMBERS = itertools.count(1)
FORECAST = Forecast(
    aim="service", name="shop", at=START, until=at(14_400), probability=0.6, published=True, reference=0.2,
    expected=0.3, expected_low=0.0, expected_high=1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with postgres() as made:
        yield made


@pytest.fixture
async def sender() -> AsyncIterator[UpsertSender]:
    made = UpsertSender(wait=wait_none())
    yield made
    await made.close()


@pytest.fixture
def schema() -> str:
    return f"s{next(NUMBERS)}"


def of(server: Database, schema: str, **changes: Any) -> Postgres:
    """Return the connector to a schema of the test's own."""
    settings = {
        "address": server.address,
        "password": PASSWORD,
        "schema_name": schema,
        "tls": False,
        **changes,
    }
    return build("postgres", **settings)


async def write(sender: UpsertSender, connector: Postgres, *events: Event) -> Sequence[Any]:
    """Write a batch as the dispatcher does; return the verdicts."""
    rendered = connector.render(events, None, "")
    assert len(rendered.event_ids) == len(events)
    response = await sender.send(connector.seal(rendered.request, rendered.event_ids, START), timeout_s=10)
    return connector.judge(rendered, response)


async def rehearse(sender: UpsertSender, connector: Postgres) -> Any:
    """Return the verdict on a probe."""
    request = connector.seal(connector.probe(), (), START)
    response = await sender.send(request, timeout_s=10)
    return connector.judge(Rendered(request=request, event_ids=("probe",)), response)[0]


def story() -> list[Event]:
    """An incident from its first alert to its end: a second alert joins, somebody comes, it closes and comes back."""
    first, second = episode("Slow", labels=labels("Slow")), episode("Down", 1, labels=labels("Down"))
    ended = [
        episode(name, number, labels=labels(name), ends_at=at(600), times=3)
        for number, name in enumerate(("Slow", "Down"))
    ]
    return [
        event(EventKind.OPENED, 1, episodes=(first,), common_labels=first.labels),
        event(UPDATED, 2, episodes=(first, second)),
        event(ACKNOWLEDGED, 3, episodes=(first, second)),
        event(CLOSED, 4, episodes=tuple(ended)),
        event(EventKind.REOPENED, 5, episodes=(first, ended[1])),
        event(CLOSED, 6, episodes=tuple(ended)),
    ]  # fmt: skip


def labels(name: str) -> dict[str, str]:
    return {
        "alertname": name,
        "service": "checkout",
        "team": "shop",
        "instance": "db1:9100",
        "namespace": "prod",
    }


def picture(database: Database, schema: str) -> dict[str, str]:
    """Return all that stands in the tables but the calendar."""
    tables = (
        "dim_rule", "dim_service", "dim_team", "fact_incident", "fact_incident_event", "fact_alert", "fact_forecast"
    )  # fmt: skip
    return {
        each: database.psql(f"select * from {schema}.{each} order by 1, 2, 3, 4", database="reports")
        for each in tables
    }


def ask(database: Database, text: str) -> str:
    return database.psql(text, database="reports")


async def test_an_incident_stands_in_the_tables_as_its_newest_event_tells_it(database, sender, schema):
    verdicts = await write(sender, of(database, schema), *story())

    assert verdicts == (Delivered(),) * 6
    assert ask(database, f"""select incident, seq, state, severity, rule, team, service, namespace, place, alerts_total,
        firings, events, reopened, opened_on, time_to_acknowledge_s, time_to_close_s, root_rule
        from {schema}.fact_incident""") == (
        "3f1c9a7d52e84b06|6|closed|critical|Slow|shop|checkout|prod|db1:9100|2|6|6|1|2026-11-23|3|6|Slow"
    )  # fmt: skip
    assert ask(
        database, f"select rule, firings, lasted_s, labels->>'team' from {schema}.fact_alert order by rule"
    ) == ("Down|3|599|shop\nSlow|3|600|shop")
    assert ask(database, f"select seq, kind from {schema}.fact_incident_event order by seq") == (
        "1|opened\n2|updated\n3|acknowledged\n4|closed\n5|reopened\n6|closed"
    )
    assert ask(database, f"select rule, severity, team from {schema}.dim_rule order by 1") == (
        "Down|critical|shop\nSlow|critical|shop"
    )


async def test_what_comes_twice_changes_nothing_and_is_told_as_a_repeat(database, sender, schema):
    await write(sender, of(database, schema), *story()[:4])
    before = picture(database, schema)

    assert await write(sender, of(database, schema), *story()[:4]) == (Duplicate(),) * 4
    assert await write(sender, of(database, schema), story()[1]) == (Duplicate(),)
    assert picture(database, schema) == before


@pytest.mark.parametrize("seed", range(4))
async def test_the_order_in_which_events_come_and_their_batches_make_no_difference(
    database, sender, schema, seed
):
    await write(sender, of(database, schema), *story())
    drawn = random.Random(seed)
    events = story() + drawn.sample(story(), 3)
    drawn.shuffle(events)
    other = f"{schema}x"

    while events:
        size = drawn.randint(1, 3)
        await write(sender, of(database, other), *events[:size])
        events = events[size:]

    assert picture(database, other) == picture(database, schema)


async def test_what_is_stale_leaves_the_newer_state(database, sender, schema):
    await write(sender, of(database, schema), story()[3])

    assert await write(sender, of(database, schema), story()[1]) == (Delivered(),)
    assert ask(database, f"select seq, state, events from {schema}.fact_incident") == "4|closed|2"
    assert ask(database, f"select count(*) from {schema}.fact_alert where ends_at is null") == "0"


async def test_the_alerts_are_those_of_the_newest_event_whatever_comes_late(database, sender, schema):
    connector, both = of(database, schema), story()[1].incident.episodes
    for seq, listed, expected in ((3, both[:1], "1"), (2, both, "1"), (5, both, "2"), (4, both[:1], "2")):
        await write(sender, connector, event(UPDATED, seq, episodes=listed))
        assert ask(database, f"select count(*) from {schema}.fact_alert") == expected, seq


async def test_an_alert_stands_in_one_incident_after_a_merge(database, sender, schema):
    connector = of(database, schema)
    await write(sender, connector, *story()[:2])
    merged = event(EventKind.MERGED, 3, episodes=(), alerts_total=0)
    into = event(UPDATED, 9, incident=view(id="77aa77aa77aa77aa", episodes=story()[1].incident.episodes))

    await write(sender, connector, merged, into)

    assert ask(database, f"select distinct incident from {schema}.fact_alert") == "77aa77aa77aa77aa"
    assert ask(
        database, f"select state, merged_into, rule, service from {schema}.fact_incident order by 1"
    ) == ("merged|77aa77aa77aa77aa|Slow|checkout\nopen||Slow|checkout")


async def test_alerts_beyond_the_list_of_an_event_stay(database, sender, schema):
    connector = of(database, schema)
    await write(sender, connector, *story()[:2])
    cut = story()[1].incident.episodes[:1]

    await write(sender, connector, event(UPDATED, 3, episodes=cut, truncated=1, alerts_total=2))

    assert ask(database, f"select count(*) from {schema}.fact_alert") == "2"


async def test_hostile_texts_are_texts(database, sender, schema):
    assert await write(sender, of(database, schema), nasty_event(size=10_000)) == (Delivered(),)
    quoted = event(UPDATED, 8, title="'); drop table fact_incident; -- \\u0000 \x00 $tocsin$ {schema} %s")
    assert await write(sender, of(database, schema), quoted) == (Delivered(),)
    assert ask(database, f"select title from {schema}.fact_incident") == (
        "'); drop table fact_incident; -- \\u0000 \ufffd $tocsin$ {schema} %s"
    )


async def test_forecasts_have_a_table_of_their_own_and_recommendations_none(database, sender, schema):
    told = announcement(FORECAST, "default", degraded=False, external_url="")
    connector = of(database, schema)

    assert await write(sender, connector, told) == (Delivered(),)
    assert await write(sender, connector, told) == (Duplicate(),)

    assert ask(database, f"select aim, name, probability from {schema}.fact_forecast") == "service|shop|0.6"
    assert ask(database, f"select count(*) from {schema}.fact_incident") == "0"
    assert not connector.wants(recommendation(FORECAST, (), "default", degraded=False, external_url=""), None)


async def test_the_labels_that_say_whose_it_is_can_be_named(database, sender, schema):
    named = episode(labels={"alertname": "Slow", "owner": "payments", "app": "till"})
    connector = of(database, schema, team_label="owner", service_label="app")

    await write(sender, connector, event(episodes=(named,), common_labels={}))

    assert ask(database, f"select team, service from {schema}.fact_incident") == "payments|till"


async def test_tenants_stand_beside_each_other(database, sender, schema):
    await write(sender, of(database, schema), event(tenant="one"), event(tenant="two"))

    assert ask(database, f"select tenant, events from {schema}.fact_incident order by 1") == "one|1\ntwo|1"


async def test_two_that_write_at_once_make_the_tables_once(database, schema):
    senders = [UpsertSender(wait=wait_none()) for _ in range(4)]
    events = [event(UPDATED, seq) for seq in range(1, 9)]

    done = await asyncio.gather(
        *(write(each, of(database, schema), *events[number:]) for number, each in enumerate(senders))
    )

    assert sum(isinstance(each, Delivered) for verdicts in done for each in verdicts) == 8
    assert ask(database, f"select count(*) from {schema}.schema_version") == "1"
    for each in senders:
        await each.close()


async def test_a_role_that_only_writes_is_enough_where_the_tables_are_there(database, sender, schema):
    """The grants are those of the page."""
    await write(sender, of(database, schema), event())
    database.psql("drop role if exists writer")
    database.psql("create role writer login password 'w'")
    page = (Path(__file__).parents[2] / "docs/connectors/postgres.md").read_text()
    [grants] = re.findall(r"```sql\n(grant .*?)```", page, re.DOTALL)
    ask(database, grants.replace("tocsin", schema))
    writer = of(database, schema, user="writer", password="w", create=False)

    assert await write(sender, writer, *story()[1:]) == (Delivered(),) * 5
    assert await rehearse(sender, of(database, schema, user="writer", password="w")) == Delivered()
    ask(database, f"revoke insert on {schema}.fact_alert from writer")
    refused = await write(sender, writer, event(UPDATED, 9))
    assert isinstance(refused[0], Blocked)
    assert "permission denied for table fact_alert" in refused[0].reason
    ask(database, "drop owned by writer")


async def test_tables_that_are_missing_are_told(database, sender, schema):
    verdict = await rehearse(sender, of(database, schema, create=False))
    assert isinstance(verdict, Blocked)
    assert f'"{schema}.' in verdict.reason
    assert "create: true" in verdict.reason

    connector = of(database, schema)
    await write(sender, connector, event())
    ask(database, f"drop table {schema}.fact_alert")
    blocked = await write(sender, connector, event(UPDATED, 2))
    assert isinstance(blocked[0], Blocked)
    assert "a table is missing" in blocked[0].reason


async def test_a_rehearsal_leaves_nothing(database, sender, schema):
    assert await rehearse(sender, of(database, schema)) == Delivered()
    assert ask(database, f"select count(*) from pg_namespace where nspname = '{schema}'") == "0"
    assert await write(sender, of(database, schema), event()) == (Delivered(),)


async def test_a_wrong_password_blocks_and_is_not_repeated(database, sender, schema):
    verdicts = await write(sender, of(database, schema, password="hunter2-hunter2"), event())

    assert isinstance(verdicts[0], Blocked)
    assert "28P01" in verdicts[0].reason
    assert "hunter2" not in verdicts[0].reason
    assert await write(sender, of(database, schema), event()) == (Delivered(),)  # and then the right one


async def test_a_password_that_changed_is_not_used_on(database, sender, schema):
    await write(sender, of(database, schema), event())

    assert isinstance(
        (await write(sender, of(database, schema, password="another"), event(UPDATED, 2)))[0], Blocked
    )


async def test_a_database_that_does_not_exist_blocks(database, sender, schema):
    verdicts = await write(sender, of(database, schema, database="nowhere"), event())

    assert isinstance(verdicts[0], Blocked)
    assert 'database "nowhere" does not exist' in verdicts[0].reason


async def test_the_socket_in_a_folder_is_reached(database, sender, schema):
    connector = of(database, schema, address=database.socket, password=None)

    assert await write(sender, connector, event()) == (Delivered(),)


async def test_the_environment_and_a_pgpass_are_not_looked_at(database, sender, schema, monkeypatch):
    for name, value in {
        "PGPASSWORD": PASSWORD,
        "PGHOST": "elsewhere.invalid",
        "PGDATABASE": "no",
        "PGSSLMODE": "require",
    }.items():
        monkeypatch.setenv(name, value)

    assert await write(sender, of(database, schema), event()) == (Delivered(),)
    assert isinstance((await write(sender, of(database, schema, password=None), event()))[0], Blocked)


async def test_a_connection_that_was_cut_is_made_again(database, sender, schema):
    connector = of(database, schema)
    await write(sender, connector, event())
    ask(database, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tocsin'")

    verdicts = [(await write(sender, connector, event(UPDATED, 2)))[0] for _ in range(2)]

    assert isinstance(verdicts[0], Retry | Delivered)
    assert isinstance(verdicts[1], Delivered | Duplicate)


async def test_a_server_that_crashes_is_waited_for_and_nothing_is_lost_or_doubled(database, sender, schema):
    connector = of(database, schema)
    await write(sender, connector, *story()[:2])
    database.stop(how=signal.SIGQUIT)

    down = await write(sender, connector, *story()[2:])
    down = await write(sender, connector, *story()[2:])
    database.start()

    assert all(isinstance(each, Retry) and each.whole_destination for each in down)
    assert await write(sender, connector, *story()[1:]) == (Duplicate(), *(Delivered(),) * 4)
    assert ask(database, f"select events, seq from {schema}.fact_incident") == "6|6"


async def test_a_table_that_is_locked_is_waited_for_no_longer_than_told(database, sender, schema):
    connector = of(database, schema)
    await write(sender, connector, event())
    rendered = connector.render([event(UPDATED, 2)], None, "")
    sealed = connector.seal(rendered.request, rendered.event_ids, START)
    holding = asyncio.create_task(
        asyncio.to_thread(
            ask, database, f"begin; lock table {schema}.fact_incident; select pg_sleep(2); commit"
        )
    )
    while ask(database, "select count(*) from pg_locks where mode = 'AccessExclusiveLock'") == "0":
        await asyncio.sleep(0.02)

    response = await sender.send(sealed, timeout_s=0.3)

    assert isinstance(response, Unreached)
    assert (response.kind, response.maybe_sent) == ("timeout", True)
    await holding
    assert await write(sender, connector, event(UPDATED, 2)) == (Delivered(),)


async def test_who_gives_up_leaves_no_transaction(database, sender, schema):
    connector = of(database, schema)
    await write(sender, connector, event())
    holding = asyncio.create_task(
        asyncio.to_thread(ask, database, f"begin; lock table {schema}.fact_alert; select pg_sleep(1); commit")
    )
    while ask(database, "select count(*) from pg_locks where mode = 'AccessExclusiveLock'") == "0":
        await asyncio.sleep(0.02)
    given_up = asyncio.create_task(write(sender, connector, event(UPDATED, 2)))
    while ask(database, "select count(*) from pg_locks where not granted") == "0":
        await asyncio.sleep(0.02)

    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up

    await holding
    assert await write(sender, connector, event(UPDATED, 3)) == (Delivered(),)
    assert ask(database, f"select seq, events from {schema}.fact_incident") == "3|2"


async def test_a_standby_that_only_reads_is_waited_for(database, sender, schema):
    connector = of(database, schema)
    await write(sender, connector, event())
    database.psql("alter role tocsin set default_transaction_read_only = on")
    fresh = UpsertSender(wait=wait_none())

    verdicts = await write(fresh, connector, event(UPDATED, 2))

    assert isinstance(verdicts[0], Retry)
    database.psql("alter role tocsin reset default_transaction_read_only")
    await fresh.close()


async def test_tls_is_checked_and_never_left_out(database, sender, schema, tmp_path):
    certificate, key = make_certificate(tmp_path, host="IP:127.0.0.1")
    other, _ = make_certificate(tmp_path, "other", host="IP:127.0.0.1")
    without = await write(sender, of(database, schema, tls=True, ca_file=str(certificate)), event())
    assert isinstance(without[0], Blocked)
    assert "SSL" in without[0].reason

    database.give(certificate, "server.crt")
    database.give(key, "server.key")
    database.psql("alter system set ssl = on")
    database.psql("select pg_reload_conf()")
    while database.psql("show ssl") != "on":
        await asyncio.sleep(0.05)

    wrong = await write(sender, of(database, schema, tls=True, ca_file=str(other)), event())
    assert isinstance(wrong[0], Blocked)
    assert await write(sender, of(database, schema, tls=True, ca_file=str(certificate)), event()) == (
        Delivered(),
    )
    assert ask(database, "select distinct s.ssl from pg_stat_ssl s join pg_stat_activity a using (pid)"
                         " where application_name = 'tocsin'") == "t"  # fmt: skip


async def test_nobody_there_is_waited_for(sender):
    connector = build("postgres", address="127.0.0.1:9", tls=False)

    verdicts = await write(sender, connector, event())

    assert isinstance(verdicts[0], Retry)
    assert verdicts[0].whole_destination


async def test_another_protocol_is_not_for_this_sender(sender):
    request = Http(method="GET", url="http://x", headers={}, body=b"")
    assert isinstance(await sender.send(request, timeout_s=1), Unreached)


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("22P02", Split), ("23514", Split), ("54000", Split), ("22P05", Blocked), ("42501", Blocked), ("42601", Blocked),
        ("0A000", Blocked), ("40001", Retry), ("40P01", Retry), ("53100", Retry), ("53300", Retry), ("57P01", Retry),
        ("57P03", Retry), ("25006", Retry), ("55P03", Retry), ("XX000", Retry),
    ],
)  # fmt: skip
def test_each_code_leads_to_what_the_page_says(code, verdict):
    connector = build("postgres")
    rendered = connector.render([event(), event(UPDATED, 2)], None, "")

    judged = connector.judge(rendered, Refused(code=code, reason="why"))

    assert {type(each) for each in judged} == {verdict}
    assert code in judged[0].reason


def test_the_servers_words_are_one_short_line_without_the_password():
    connector = build("postgres")
    rendered = connector.render([event()], None, "")
    words = "bad \x1b[31m\nvalue correct-horse-battery-staple " + "x" * 100_000

    (verdict,) = connector.judge(rendered, Refused(code="22P02", reason=words))

    assert verdict.reason.startswith("22P02: bad [31m value ******** xxx")
    assert verdict.reason.isprintable()
    assert len(verdict.reason) < 250


def test_a_row_that_is_refused_alone_is_rejected():
    connector = build("postgres")
    rendered = connector.render([event()], None, "")

    assert isinstance(connector.judge(rendered, Refused(code="22P02", reason="why"))[0], Reject)


@pytest.mark.parametrize("wrong", ["db.example.com", "db:0", "db:99999", ":5432", "db:port"])
def test_an_address_without_a_port_is_a_fault(wrong):
    with pytest.raises(ValueError, match="expected host:port"):
        build("postgres", address=wrong)


@pytest.mark.parametrize("wrong", ["Tocsin", "a-b", 'a"; drop schema x; --', "", "pg$"])
def test_a_schema_is_a_plain_name(wrong):
    with pytest.raises(ValueError, match="schema_name"):
        build("postgres", schema_name=wrong)
