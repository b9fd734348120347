"""Kind `teams`: a message in Microsoft Teams through a workflow ("When a Teams webhook request is received").

A workflow cannot change what it posted, so there is one message for each thing that a person should notice (opened,
escalated, closed, ...), with what changed since the last, and none for an update.

Rooms: `connector` renders and judges, `card` is the message.

Rules: only 202 is success; it says that the workflow has begun, and nothing tells how it ended. A workflow that is
switched off, a trigger that wants another body, an owner who left: all of them are answered 4xx and block.
Decision: workflows only. The connectors of Office 365, which took the same address form, are switched off.
Sources: learn.microsoft.com, "Create incoming webhooks with Workflows for Microsoft Teams"; adaptivecards.io, schema
explorer (1.4).
"""

from __future__ import annotations

from connectors.kinds.teams.connector import Teams, TeamsSettings

__all__ = ["Teams", "TeamsSettings"]
