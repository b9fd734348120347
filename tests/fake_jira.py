"""A Jira with one project and a workflow of two statuses, as far as an issue per incident needs one."""

from __future__ import annotations

import json
import re
from typing import Any

from bridge.ports import Http, HttpResponse

LOST = {"errorMessages": ["Issue does not exist or you do not have permission to see it."], "errors": {}}


def answer(number: int, body: object = None) -> HttpResponse:
    """Return an answer in JSON, or an empty one."""
    return HttpResponse(status=number, headers={}, body=b"" if body is None else json.dumps(body).encode())


class FakeJira:
    """Keeps issues by key."""

    def __init__(self) -> None:
        self.issues: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []

    def __call__(self, request: Http) -> HttpResponse:
        """Answer one sealed request."""
        path = request.url.partition("/rest/")[2]
        self.calls.append(f"{request.method} {path}")
        return self.answer(path, json.loads(request.body) if request.body else {})

    def answer(self, path: str, body: dict[str, Any]) -> HttpResponse:
        """Answer what is asked at a path below /rest/."""
        if path in {"api/3/search/jql", "api/2/search"}:
            label = re.findall(r'labels = "([^"]+)"', body["jql"])[0]
            found = [{"key": key} for key, made in self.issues.items() if label in made["labels"]]
            return answer(200, {"issues": found})
        if path == "api/2/issue":
            key = f"OPS-{len(self.issues) + 1}"
            self.issues[key] = body["fields"] | {"status": "To Do", "comments": []}
            return answer(201, {"id": "1", "key": key, "self": "https://x"})
        return self._of_issue(path, body)

    def _of_issue(self, path: str, body: dict[str, Any]) -> HttpResponse:
        key, _, what = path.removeprefix("api/2/issue/").partition("/")
        made = self.issues.get(key)
        if made is None:
            return answer(404, LOST)
        if what == "comment":
            made["comments"].append(body["body"])
            return answer(201, {"id": "10000"})
        if what == "transitions" and "transition" not in body:
            other = {"id": "21", "name": "Start", "to": {"name": "To Do"}}
            done = {"id": "31", "name": "Finish", "to": {"name": "Done"}}
            return answer(200, {"transitions": [done if made["status"] == "To Do" else other]})
        if what == "transitions":
            made["status"] = {"31": "Done", "21": "To Do"}[body["transition"]["id"]]
            return answer(204)
        made |= body["fields"]
        return answer(204)
