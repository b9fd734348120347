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
            "1 alert since 2026-01-05 03:00:00 UTC, 1 firing. "
            "Most severe and earliest: HighCPU on web-0 (warning): CPU of web-0 above 90 %. ",
            id="one alert",
        ),
        pytest.param(
            STORM,
            "NodeDown and 2 other kinds on cluster eu-1 (5 alerts)",
            "5 alerts of 3 kinds since 2026-01-05 03:00:00 UTC, 5 firing. "
            "Most severe and earliest: NodeDown on db-1 (critical): db-1 is down. "
            "Also 3 PodCrash, 1 DiskSlow. All share cluster=eu-1.",
            id="a storm",
        ),
        pytest.param(
            [episode("A", n, service="shop", namespace="web", host=f"h{n}") for n in range(2)],
            "A on shop, namespace web (2 alerts)",
            "2 alerts since 2026-01-05 03:00:00 UTC, 2 firing. Most severe and earliest: A on h0 (warning). "
            "All share namespace=web, service=shop.",
            id="no text, shared service",
        ),
        pytest.param(
            [episode(f"Kind{n}", n) for n in range(9)],
            "Kind0 and 8 other kinds (9 alerts)",
            "9 alerts of 9 kinds since 2026-01-05 03:00:00 UTC, 9 firing. "
            "Most severe and earliest: Kind0 (warning). "
            "Also 1 Kind1, 1 Kind2, 1 Kind3, 1 Kind4, 1 Kind5 and 3 other kinds.",
            id="nothing shared, many kinds",
        ),
        pytest.param(
            [episode("", 0, ended=60, text="What?\n  A   line break")],
            "unnamed alert",
            "1 alert since 2026-01-05 03:00:00 UTC, 0 firing. "
            "Most severe and earliest: unnamed alert (warning): What? A line break.",
            id="an alert without a name, over, with a messy text",
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
    incident = rendered(group([episode("N" * 300, n, service="s" * 200, text="t" * 500) for n in range(2)]))
    assert len(incident.title) == 140
    assert incident.title.endswith("…")
    assert "t" * 199 + "…" in incident.summary
    assert "service=" + "s" * 59 + "…" in incident.summary
