"""Titles and summaries, as a person reads them at three in the morning."""

from __future__ import annotations

import random

import pytest
from groups import episode, group

from bridge.analysis.incidents import rendered
from bridge.model import Episode

STORM = [
    episode("NodeDown", 0, "critical", instance="db-1:9100", cluster="eu-1", text="db-1 is down"),
    episode("DiskSlow", 4, "warning", node="db-1", cluster="eu-1", text="reads take 2 s"),
    *(episode("PodCrash", 7 + n, pod=f"shop-7d9f8b6c5-x2x4{n}", cluster="eu-1") for n in range(3)),
]


@pytest.mark.parametrize(
    ("episodes", "title", "summary"),
    [
        pytest.param(
            [episode("HighCPU", 0, "warning", instance="web-0:9100", text="CPU of web-0 above 90 %")],
            "HighCPU on web-0:9100",
            "HighCPU on web-0 (warning) since 2026-01-05 03:00:00 UTC: CPU of web-0 above 90 %. ",
            id="one alert",
        ),
        pytest.param(
            STORM,
            "NodeDown and 2 other kinds in cluster eu-1 (5 alerts)",
            "5 alerts of 3 kinds (1 critical, 4 warning) since 2026-01-05 03:00:00 UTC, 5 firing. "
            "Most urgent: NodeDown on db-1 (critical): db-1 is down. "
            "Also 3 PodCrash, 1 DiskSlow. All share cluster=eu-1.",
            id="a storm",
        ),
        pytest.param(
            [
                episode("NodeDown", 0, "critical", instance="db-1:9100", cluster="eu-1"),
                episode("DiskSlow", 4, node="db-1", cluster="eu-1"),
            ],
            "NodeDown and 1 other kind on db-1, cluster eu-1 (2 alerts)",
            "2 alerts of 2 kinds (1 critical, 1 warning) since 2026-01-05 03:00:00 UTC, 2 firing. "
            "Most urgent: NodeDown on db-1 (critical). Also 1 DiskSlow. All share cluster=eu-1.",
            id="one host under two labels",
        ),
        pytest.param(
            [episode("InstanceDown", n, host=f"h{n:02}", text=f"h{n:02} is down") for n in range(40)],
            "InstanceDown on 40 hosts (40 alerts)",
            "40 alerts since 2026-01-05 03:00:00 UTC, 40 firing. "
            "Most urgent: InstanceDown on h00 (warning, one of 40): h00 is down.",
            id="forty hosts, none of which is the place",
        ),
        pytest.param(
            [episode("PodDown", n, namespace=f"n{n}", cluster="eu-1") for n in range(5)],
            "PodDown in 5 namespaces, cluster eu-1 (5 alerts)",
            "5 alerts since 2026-01-05 03:00:00 UTC, 5 firing. "
            "Most urgent: PodDown on namespace n0 (warning, one of 5). All share cluster=eu-1.",
            id="five namespaces of a cluster",
        ),
        pytest.param(
            [
                episode(
                    "Crash",
                    0,
                    pod="cart-7d9f8b6c5-x2x4z",
                    namespace="shop",
                    job="kube-state-metrics",
                    instance="10.2.0.9:8080",
                ),
            ],
            "Crash on cart-7d9f8b6c5-x2x4z, namespace shop",
            "Crash on cart (warning) since 2026-01-05 03:00:00 UTC.",
            id="an exporter is no place",
        ),
        pytest.param(
            [
                episode("Old", 0, "critical", host="a", ended=60),
                episode("New", 90, "info", host="a", text="on"),
            ],
            "New and 1 other kind on a (2 alerts)",
            "2 alerts of 2 kinds (1 critical, 1 info) since 2026-01-05 03:00:00 UTC, 1 firing. "
            "Most urgent: New on a (info): on. Also 1 Old. All share host=a.",
            id="what fires now comes before what is over",
        ),
        pytest.param(
            [
                episode("Flap", 60 * n, host="a", ended=60 * n + 30, changes={"fingerprint": "f"})
                for n in range(120)
            ],
            "Flap on a (flaps, 120 times)",
            "Flap on a (warning) from 2026-01-05 03:00:00 to 04:59:30 UTC, 120 min. It flaps: fired 120 times.",
            id="one alert that flaps",
        ),
        pytest.param(
            [
                episode("Gone", 0, host="a", ended=60, changes={"expired": True}),
                episode("Back", 5, host="a", changes={"disputed": True}),
                *(episode("Flap", 9 * n, host="a", changes={"fingerprint": "f"}) for n in range(3)),
            ],
            "Back and 2 other kinds on a (3 alerts)",
            "3 alerts of 3 kinds since 2026-01-05 03:00:00 UTC, 4 firing. Most urgent: Back on a (warning). "
            "Also 1 Flap, 1 Gone. 1 alert flaps, Flap fired 3 times. "
            "1 alert given up: no resolve came, and nothing was heard any more. "
            "1 alert disputed: perhaps a late copy of a firing that is over. All share host=a.",
            id="what is not known for sure",
        ),
        pytest.param(
            [episode("A", n, service="shop", namespace="web", host=f"h{n}") for n in range(2)],
            "A on shop, namespace web (2 alerts)",
            "2 alerts since 2026-01-05 03:00:00 UTC, 2 firing. Most urgent: A on h0 (warning, one of 2). "
            "All share namespace=web, service=shop.",
            id="no text, shared service",
        ),
        pytest.param(
            [episode(f"Kind{n}", n) for n in range(9)],
            "Kind0 and 8 other kinds (9 alerts)",
            "9 alerts of 9 kinds since 2026-01-05 03:00:00 UTC, 9 firing. "
            "Most urgent: Kind0 (warning). "
            "Also 1 Kind1, 1 Kind2, 1 Kind3, 1 Kind4, 1 Kind5 and 3 other kinds.",
            id="nothing shared, many kinds",
        ),
        pytest.param(
            [episode("", 0, ended=60, text="What?\n  A   line break")],
            "unnamed alert",
            "unnamed alert (warning) from 2026-01-05 03:00:00 to 03:01:00 UTC, 60 s: What? A line break.",
            id="an alert without a name, over, with a messy text",
        ),
        pytest.param(
            [episode("Slow", 0, host="a", ended=90_000, text="Slow")],
            "Slow on a",
            "Slow on a (warning) from 2026-01-05 03:00:00 to 2026-01-06 04:00:00 UTC, 25 h.",
            id="over on another day, with a text that says nothing new",
        ),
    ],
)
def test_what_a_person_reads(episodes: list[Episode], title: str, summary: str) -> None:
    incident = rendered(group(episodes))
    assert incident.title == title
    assert incident.summary == summary.strip()


def test_the_order_in_which_alerts_came_changes_no_word() -> None:
    wanted = rendered(group(STORM))
    for seed in range(10):
        mixed = random.Random(seed).sample(STORM, len(STORM))
        told = rendered(group(mixed))
        assert (told.title, told.summary, told.root) == (wanted.title, wanted.summary, wanted.root)


def test_long_names_values_and_texts_are_cut() -> None:
    incident = rendered(
        group([episode("N" * 300, n, service="s" * 200, pod=f"p-{n}", text="t" * 500) for n in range(2)])
    )
    assert len(incident.title) == 140
    assert incident.title.endswith("…")
    assert "t" * 199 + "…" in incident.summary
    assert "service=" + "s" * 59 + "…" in incident.summary
