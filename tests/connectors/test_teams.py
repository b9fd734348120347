"""Teams: the card, what is told and when, and how a workflow answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import tenacity
from aiohttp import web
from aiohttp.test_utils import TestServer
from builders import START, episode, event, view
from destinations import NASTY, build, nasty_event
from pydantic import ValidationError

from bridge.model import Blocked, Delivered, EventKind, IncidentState, Retry, Split
from bridge.ports import HttpResponse, Rendered
from connectors.transport.http import HttpSender

MODULES = os.environ.get("TOCSIN_ADAPTIVECARDS", "")
SIGNATURE = "example-signature"


def rendered(made=None, memory=None) -> Rendered:
    return build("teams").render([made or event()], memory, "")


def card_of(made: Rendered) -> dict:
    return json.loads(made.request.body)["attachments"][0]["content"]


def texts(made: Rendered) -> list[str]:
    return ["".join(run["text"] for run in block["inlines"]) for block in card_of(made)["body"]]


def told(made: Rendered) -> dict[str, str]:
    (verdict,) = build("teams").judge(made, HttpResponse(status=202, headers={}, body=b""))
    assert isinstance(verdict, Delivered)
    return verdict.memory


def test_a_card_says_what_fires_where_and_what_came_first():
    said = texts(rendered())

    assert said[0] == "🔴 checkout: HighLatency on 2 instances"
    assert said[1] == "Opened"
    assert "🔴 HighLatency on 10.0.0.0:9100: p99 latency of checkout on node 0 above 2 s" in said
    assert "First suspect: HighLatency on 10.0.0.0:9100 (80%): it came first" in said
    assert said[-1].startswith("critical · open · 2 of 2 alerts firing · since 2026-11-23 22:00 UTC")


def test_links_are_buttons():
    runbook = episode(annotations={"runbook_url": "https://runbooks.example.com/latency"})

    assert card_of(rendered(event(episodes=(runbook,))))["actions"] == [
        {"type": "Action.OpenUrl", "title": "Runbook", "url": "https://runbooks.example.com/latency"},
        {
            "type": "Action.OpenUrl",
            "title": "Source",
            "url": "https://prometheus.example.com/graph?g0.expr=up",
        },
    ]


def test_a_link_that_is_none_is_left_out():
    bad = episode(annotations={"runbook_url": "javascript:alert(1)"}, generator_url="file:///etc/passwd")

    assert [each["url"] for each in card_of(rendered(event(episodes=(bad,), url="")))["actions"]] == []


def test_what_changed_since_the_last_message_is_told():
    memory = told(rendered(event(incident=view(severity="warning"))))

    said = texts(rendered(event(EventKind.ESCALATED, 2, escalations=1), memory))

    assert said[1] == "Escalated: warning → critical; 2 of 2 firing"


def test_an_end_that_replaced_an_escalation_is_told_as_an_end():
    memory = told(rendered())

    said = texts(rendered(event(EventKind.CLOSED, 5, escalations=1), memory))

    assert said[0].startswith("✅")
    assert said[1].startswith("Closed after 5 s")


@pytest.mark.parametrize("kind", EventKind)
def test_everything_but_an_update_is_told(kind):
    assert build("teams").wants(event(kind, 2), {}) is (kind is not EventKind.UPDATED)


def test_what_is_not_listed_is_counted():
    made = rendered(event(episodes=tuple(episode(number=each) for each in range(40)), truncated=60))

    assert "and 90 more" in texts(made)


def test_hostile_text_stays_text():
    markdown = "[click](https://evil.example.com) **bold** <at>everyone</at>"
    made = rendered(event(incident=view(title=markdown, summary=f"{markdown}\r\n{NASTY}")))

    assert texts(made)[0] == f"🔴 {markdown}"
    assert {block["type"] for block in card_of(made)["body"]} == {"RichTextBlock"}
    assert "msteams" in card_of(made)
    assert "entities" not in card_of(made)["msteams"]  # without one nobody is mentioned


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        (400, "TriggerInputSchemaMismatch", Blocked),
        (400, "WorkflowTriggerIsNotEnabled", Blocked),
        (401, "DirectApiAuthorizationRequired", Blocked),
        (403, "AuthorizationFailed", Blocked),
        (404, "WorkflowNotFound", Blocked),
        (413, "RequestEntityTooLarge", Split),
        (429, "WorkflowRunActionThrottled", Retry),
        (500, "InternalServerError", Retry),
        (502, "NoResponse", Retry),
        (503, "ServiceUnavailable", Retry),
    ],
)
def test_every_known_answer_leads_to_its_verdict_and_shows_no_signature(status, code, verdict):
    body = json.dumps({"error": {"code": code, "message": f"told of sig={SIGNATURE}"}}).encode()
    (judged,) = build("teams").judge(rendered(), HttpResponse(status=status, headers={}, body=body))

    assert type(judged) is verdict
    assert code in judged.reason
    assert SIGNATURE not in judged.reason


def test_a_workflow_that_answers_in_its_own_words_has_the_message():
    headers = {"x-ms-workflow-run-id": "08585287571846573488044702123CU00"}
    (judged,) = build("teams").judge(rendered(), HttpResponse(status=200, headers=headers, body=b"posted"))

    assert judged == Delivered(memory=rendered().request.about)


@pytest.mark.parametrize("body", [b"1", b""])
def test_a_200_of_no_workflow_may_have_posted_and_is_not_asked_again_each_minute(body):
    (judged,) = build("teams").judge(rendered(), HttpResponse(status=200, headers={}, body=body))

    assert isinstance(judged, Blocked)
    assert judged.disabled
    assert "Response action" in judged.reason


def test_one_address_is_needed(tmp_path):
    with pytest.raises(ValidationError, match="exactly one of url and url_file"):
        build("teams", url=None)
    (tmp_path / "url").write_text("https://workflow.example.com/x?sig=s\n")
    assert build("teams", url=None, url_file=str(tmp_path / "url"))


async def test_a_card_is_posted_to_the_whole_address():
    asked = []

    async def run(request: web.Request) -> web.Response:
        asked.append((request.query["sig"], request.query["sp"], await request.json()))
        if len(asked) == 1:
            return web.Response(status=429, headers={"Retry-After": "20"})
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/workflows/x/triggers/manual/paths/invoke", run)
    async with TestServer(app) as server:
        path = "/workflows/x/triggers/manual/paths/invoke?sp=%2Ftriggers%2Fmanual%2Frun&sig=a%2Bb"
        connector = build("teams", url=f"http://127.0.0.1:{server.port}{path}")
        sender, made = HttpSender(wait=tenacity.wait_none()), rendered()
        verdicts = []
        for _ in range(2):
            sealed = connector.seal(made.request, made.event_ids, START)
            verdicts += connector.judge(made, await sender.send(sealed, timeout_s=5))
        await sender.close()

    assert isinstance(verdicts[0], Retry)
    assert verdicts[0].after_s == 20.0
    assert isinstance(verdicts[1], Delivered)
    assert asked[0] == asked[1] == ("a+b", "/triggers/manual/run", json.loads(made.request.body))


@pytest.mark.skipif(
    not MODULES, reason="TOCSIN_ADAPTIVECARDS names no node_modules with adaptivecards (make test-cards)"
)
def test_microsofts_library_finds_nothing_wrong():
    over = event(EventKind.CLOSED, 3, state=IncidentState.CLOSED)
    made = [rendered(), rendered(over, told(rendered())), rendered(nasty_event(size=5000))]
    made += [build("teams").render([nasty_event(size=5000)], None, "", size) for size in (10_000, 4096, 2048)]
    bad = card_of(rendered()) | {"body": [{"type": "NoSuchBlock"}, {"type": "RichTextBlock", "inlines": 7}]}
    lines = "\n".join(json.dumps(card) for card in [*map(card_of, made), bad])

    told_of = subprocess.run(
        [shutil.which("node") or "node", str(Path(__file__).parents[1] / "adaptive_cards.cjs")],
        input=lines, capture_output=True, text=True, check=True, timeout=50, env=os.environ | {"NODE_PATH": MODULES},
    )  # fmt: skip

    *found, of_bad = map(json.loads, told_of.stdout.splitlines())
    assert found == [[]] * len(made)
    assert of_bad
