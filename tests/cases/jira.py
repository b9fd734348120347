from __future__ import annotations

from expected import Expected
from hypothesis import strategies as st

from bridge.ports import HttpResponse

KEY = {"key": "OPS-7", "severity": "warning", "state": "open", "escalations": "0", "status": "open"}

EXPECTED = Expected(
    variants={
        "jira_data_center": {
            "name": "tickets",
            "kind": "jira",
            "url": "https://jira.example.com/jira",
            "deployment": "data-center",
            "token": "personal-token-of-tocsin",
            "project": "OPS",
            "priorities": {"critical": "Highest"},
        }
    },
    secrets=("jira-token-of-tocsin", "personal-token-of-tocsin"),
    tells="create",
    probed=HttpResponse(status=200, headers={}, body=b'{"accountId":"5b1","active":true}'),
    memories=(
        (None, "create"),
        (KEY, ""),
        (KEY, "comment"),
        (KEY, "transitions"),
        (KEY, "transition/31"),
    ),
    answers={
        "issues": st.lists(st.dictionaries(st.sampled_from(["key"]), st.text(max_size=8)), max_size=2)
        | st.text(),
        "transitions": st.lists(
            st.fixed_dictionaries(
                {"id": st.sampled_from(["1", "x"]), "name": st.sampled_from(["Done", "Open"])}
            )
            | st.integers(),
            max_size=2,
        ),
        "key": st.sampled_from(["OPS-7", "../x"]) | st.integers(),
        "errors": st.dictionaries(st.sampled_from(["summary", "project"]), st.text(max_size=8)),
    },
)
