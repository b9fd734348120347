"""Kind `slack`: one message per incident, kept up to date; what changed is told in its thread.

With a bot token: `chat.postMessage` once, then `chat.update` of the same message; what a person should notice
(escalated, closed, ...) goes into the thread as well, since an update makes no sound. With the URL of an incoming
webhook there is nothing to update: one message for each thing that a person should notice, none for an update.

Rooms: `connector` renders and judges, `answers` knows Slack's errors, `blocks` is the message; `connectors.changes` is
what changed since it was told.
Sources: docs.slack.dev, methods chat.postMessage and chat.update; "Formatting message text"; Block Kit.
"""

from __future__ import annotations

from connectors.kinds.slack.blocks import escape
from connectors.kinds.slack.connector import Slack, SlackSettings

__all__ = ["Slack", "SlackSettings", "escape"]
