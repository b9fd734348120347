"""Notices through Apprise itself, with a service of ours at the end."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from builders import START, episode, event
from destinations import build, nasty_event
from pydantic import ValidationError
from servers import free_port

from bridge.model import Blocked, Delivered, EventKind, Retry
from bridge.ports import Append, NoticeResponse, Unreached
from connectors.transport.notices import THREADS, THREADS_EACH, NoticeSender

K = EventKind
#: Modules of the standard library that Apprise's plugins import, and that go with Python 3.13.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@contextmanager
def service(status: int = 200):
    """Give the address of a server that answers so, and what it was sent."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"json://user:hunter2@127.0.0.1:{server.server_address[1]}/veryverysecret", got
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


async def deliver(url, each, sender=None, timeout_s=20):
    connector = build("apprise", url=url)
    rendered = connector.render([each], None, "")
    sealed = connector.seal(rendered.request, rendered.event_ids, START)
    response = await (sender or NoticeSender()).send(sealed, timeout_s=timeout_s)
    return connector.judge(rendered, response)[0]


async def test_what_happened_arrives_as_plain_text():
    with service() as (url, got):
        assert await deliver(url, event(K.ESCALATED, 2)) == Delivered()
        assert await deliver(url, event(K.CLOSED, 3)) == Delivered()

    first, last = got
    assert first["title"] == "Escalated: checkout: HighLatency on 2 instances"
    assert first["message"].startswith("critical, open, 2 of 2 alerts firing\n")
    assert (first["type"], last["type"]) == ("failure", "success")
    assert last["title"].startswith("Closed after 3 s: ")


async def test_hostile_text_arrives_on_lines_of_its_own():
    with service() as (url, got):
        assert await deliver(url, nasty_event(size=500, count=5)) == Delivered()

    (sent,) = got
    assert "\u2039!channel\u203a" in sent["message"]
    text = (sent["title"] + sent["message"]).replace("@\u200b", "")
    assert not [each for each in text if not each.isprintable() and each != "\n"]


async def test_no_text_mentions_anybody_and_links_still_lead_there():
    words = "@everyone <@42> <!channel> @here"
    link = "https://wiki.example.com/@everyone/runbook"
    told = event(
        title=words, summary=words, id=f"i{words}",
        episodes=(episode(labels={"alertname": words}, annotations={"summary": words, "runbook_url": link}),),
    )  # fmt: skip
    with service() as (url, got):
        assert await deliver(url, told) == Delivered()

    (sent,) = got
    text = sent["title"] + sent["message"]
    assert "@\u200beveryone \u2039@\u200b42\u203a" in sent["title"]
    assert not set(text.replace("@\u200b", "")) & set("@<>")
    assert "https://wiki.example.com/%40everyone/runbook" in text


async def test_no_is_tried_again_and_no_log_holds_the_address(caplog):
    caplog.set_level(logging.DEBUG)
    with service(503) as (url, got):
        told = await deliver(url, event())

    assert isinstance(told, Retry)
    assert told.maybe_sent
    assert len(got) == 1
    assert not [secret for secret in ("hunter2", "veryverysecret") if secret in told.reason + caplog.text]


async def test_a_service_that_is_not_there_is_tried_again():
    assert isinstance(await deliver(f"json://127.0.0.1:{free_port()}/", event()), Retry)


async def test_a_service_that_says_nothing_is_waited_for_no_longer_than_an_attempt_may_take():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"json://127.0.0.1:{silent.getsockname()[1]}/?rto=2"
        sender = NoticeSender(threads=1)
        await deliver("json://127.0.0.1:1/", event(), sender)  # what is imported is there
        first = await deliver(url, event(), sender, timeout_s=0.3)
        second = await deliver(url, event(), sender, timeout_s=0.3)

    assert first.reason == "json did not answer within 0.3 s"
    assert first.maybe_sent
    assert second.reason == "too many notices hang"
    assert not second.maybe_sent


async def test_a_service_that_hangs_keeps_no_other_waiting():
    with socket.create_server(("127.0.0.1", 0)) as silent, service() as (url, got):
        hanging = f"json://127.0.0.1:{silent.getsockname()[1]}/?rto=2"
        sender = NoticeSender()
        await deliver("json://127.0.0.1:1/", event(), sender)  # what is imported is there
        many = [deliver(hanging, event(), sender, timeout_s=0.3) for _ in range(THREADS)]
        told = await asyncio.gather(*many)
        assert await deliver(url, event(), sender, timeout_s=1) == Delivered()

    assert [each.maybe_sent for each in told].count(True) == THREADS_EACH
    assert len(got) == 1


@pytest.mark.parametrize(
    "url", ["slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#good/#bad", "mailto://a:b@example.com?to=c@example.com,d@example.com"]
)  # fmt: skip
async def test_a_url_with_several_targets_blocks_before_anything_is_sent(url):
    connector = build("apprise", url=url)
    probed = await NoticeSender().send(connector.seal(connector.probe(), (), START), timeout_s=20)

    assert isinstance(probed, Unreached)
    assert (probed.kind, probed.maybe_sent) == ("local", False)
    assert probed.reason.startswith("one URL, one target")
    assert isinstance(await deliver(url, event()), Blocked)


async def test_what_apprise_repeats_by_itself_goes_to_one_target():
    with service() as (url, got):
        assert await deliver(f"{url}?retry=2", event()) == Delivered()

    assert len(got) == 1


@pytest.mark.parametrize("url", ["nosuchservice://token", "pover://onlyonepart"])
async def test_an_address_that_apprise_cannot_read_blocks_before_anything_is_sent(url):
    connector = build("apprise", url=url)
    probed = await NoticeSender().send(connector.seal(connector.probe(), (), START), timeout_s=20)

    assert probed == Unreached(reason="Apprise cannot read this URL", maybe_sent=False, kind="local")
    assert isinstance(await deliver(url, event()), Blocked)


async def test_a_probe_sends_nothing():
    with service() as (url, got):
        connector = build("apprise", url=url)
        probed = await NoticeSender().send(connector.seal(connector.probe(), (), START), timeout_s=20)

    assert probed == NoticeResponse(taken=True)
    assert got == []


async def test_another_protocol_is_refused():
    assert isinstance(await NoticeSender().send(Append(path="x", lines=b""), timeout_s=1), Unreached)


def test_a_mere_update_is_not_told():
    assert not build("apprise").wants(event(K.UPDATED), None)
    assert build("apprise").wants(event(K.CLOSED), None)


@pytest.mark.parametrize("query", ["verify=no", "format=text&Verify=0"])
def test_the_check_of_certificates_cannot_be_switched_off(query):
    with pytest.raises(ValidationError, match="certificates are always checked"):
        build("apprise", url=f"jsons://example.com/x?{query}")


@pytest.mark.parametrize("url", ["pover", "://x", "pover://", "pover://a@b mailto://c", "po ver://x"])
def test_what_is_no_single_url_is_a_fault_that_does_not_repeat_it(url):
    with pytest.raises(ValidationError, match="expected one URL of Apprise") as caught:
        build("apprise", url=url)
    assert "a@b" not in str(caught.value)
