"""What Jira answers, and what that makes of a step.

What must be known of the event stands in the frozen request's `about`: `path`, `step`, `over` ("1": no issue is opened
for it), `then` (the next step after success), `memory` (JSON: what is remembered after success), `want` (a transition).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from bridge.model import Blocked, Delivered, Reject, Split, Verdict
from bridge.ports import Http, HttpResponse, Memory
from connectors.common import json_object

OK, CREATED, NO_CONTENT, BAD_REQUEST, NOT_FOUND = 200, 201, 204, 400, 404
SEARCH, CREATE, UPDATE, COMMENT, TRANSITIONS, TRANSITION = (
    "search", "create", "update", "comment", "transitions", "transition",
)  # fmt: skip
MYSELF = "myself"
#: What each step is answered with where all is well.
GOOD = {
    SEARCH: OK, CREATE: CREATED, UPDATE: NO_CONTENT, COMMENT: CREATED, TRANSITIONS: OK, TRANSITION: NO_CONTENT,
    MYSELF: OK,
}  # fmt: skip
#: The fields whose content comes from an event.
TEXTS = frozenset({"summary", "description", "comment"})
#: Keys and ids become parts of an address.
KEY, ID = re.compile(r"[A-Z][A-Z0-9_]{0,99}-[0-9]{1,19}"), re.compile(r"[0-9]{1,19}")


def judge(request: Http, response: HttpResponse, verdict: Verdict) -> Verdict:
    """Return what the body makes of the verdict on the status."""
    step, answer = request.about.get("step", ""), json_object(response.body)
    if isinstance(verdict, Delivered):
        good = _success(request, answer) if GOOD.get(step) == response.status else None
        return good or Blocked(reason=f"HTTP {response.status}: not Jira's answer; is a proxy in between?")
    if response.status == NOT_FOUND and step not in {SEARCH, CREATE, MYSELF} and "errorMessages" in answer:
        # The issue was deleted, or moved to where we may not go.
        return Delivered(memory={}, next_step="" if request.about.get("over") else CREATE)
    if isinstance(verdict, Reject):
        return _refused(response, answer, verdict)
    return verdict


def _success(request: Http, answer: dict[str, Any]) -> Delivered | None:
    """Return what follows from a good answer; None where it lacks what it must have."""
    about, step = request.about, request.about["step"]
    if step == SEARCH:
        return _found(answer.get("issues"), is_over=bool(about.get("over")))
    if step == TRANSITIONS:
        return _moves(answer.get("transitions"), about)
    if step == CREATE:
        key = answer.get("key")
        return Delivered(memory=_memory(about) | {"key": str(key)}) if _is(KEY, key) else None
    if step == MYSELF:
        return Delivered() if {"accountId", "name", "key"} & set(answer) else None
    if step == COMMENT and "id" not in answer:
        return None
    return Delivered(memory=_memory(about) or None, next_step=about.get("then", ""))


def _found(issues: object, *, is_over: bool) -> Delivered | None:
    if not isinstance(issues, list):
        return None
    if not issues:
        return Delivered(next_step="" if is_over else CREATE)
    key = issues[0].get("key") if isinstance(issues[0], dict) else None
    return Delivered(memory={"key": str(key)}, next_step=UPDATE) if _is(KEY, key) else None


def _moves(offered: object, about: Memory) -> Delivered | None:
    """Return the move that is wanted, by its name or the status it leads to; none offered is as good as done."""
    if not isinstance(offered, list):
        return None
    for each in offered:
        if not isinstance(each, dict):
            return None
        status = each.get("to")
        names = (each.get("name"), status.get("name") if isinstance(status, dict) else None)
        if about["want"].casefold() in {str(name).casefold() for name in names} and _is(ID, each.get("id")):
            return Delivered(next_step=f"{TRANSITION}/{each['id']}")
    return Delivered(memory=_memory(about))


def _is(form: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None


def _memory(about: Memory) -> Memory:
    return msgspec.json.decode(about["memory"], type=Memory) if about.get("memory") else {}


def _refused(response: HttpResponse, answer: dict[str, Any], verdict: Reject) -> Verdict:
    """Return what a 400 says: of texts that are too long, of texts at all, or of something a person can correct."""
    errors = answer.get("errors")
    if response.status != BAD_REQUEST or not isinstance(errors, dict) or not set(errors) & TEXTS:
        return Blocked(reason=verdict.reason)
    words = " ".join(str(each) for each in errors.values()).lower()
    if "too long" in words or "exceeds" in words:
        return Split(reason=verdict.reason)
    # "Field 'summary' cannot be set. It is not on the appropriate screen": the project's settings, or our rights.
    is_of_the_text = set(errors) <= TEXTS and "cannot be set" not in words
    return verdict if is_of_the_text else Blocked(reason=verdict.reason)
