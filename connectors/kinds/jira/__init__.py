"""Kind `jira`: one issue per incident, in Jira Cloud or Data Center, found again by its label and kept up to date.

`connector` decides which call comes next, `issues` writes what people read, `answers` judges. An event takes several
calls, each a step of its own (`next_step`):

* nothing is remembered: `search` for the incident's label; found: `update`, else `create`;
* `update` writes summary and description anew; `comment` tells what changed, where that is worth a notice;
* `transitions` asks which moves the workflow offers now, `transition/<id>` makes the one that the settings name.

Remembered is the issue's key, what was last told (severity, state, escalations), and whether it was moved (`status`).

Rules: the label follows from tenant and incident, so that a lost memory finds the issue again, and an issue that was
deleted is made anew. An incident that is over opens none. What the settings have wrong (project, type, a field that is
not on the screen, a transition that wants more) blocks; only what Jira says of the texts themselves rejects an event.

Decision: version 2 of the API, whose texts are wiki markup in Cloud and Data Center alike; version 3 wants a document
tree and exists in Cloud only. Only the search differs: Cloud has taken the old one away.
Source: developer.atlassian.com, "Jira Cloud platform REST API v2", "Jira Data Center REST API"; summary 255 characters,
description 32,767.
"""

from __future__ import annotations

from connectors.kinds.jira.connector import Jira, JiraSettings

__all__ = ["Jira", "JiraSettings"]
