"""What the figures about roots are made from: hits over ties, and alerts out of metrics."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from timeline import START

from benchmarks.parts.petshop import Shop
from benchmarks.root import BASELINES, Case, hits, told
from bridge.analysis.causal_graph import key_of
from bridge.analysis.roots import Sample


def alert(name: str, at_s: float, severity: str = "warning", service: str = "shop") -> Sample:
    labels = {"alertname": name, "severity": severity, "service": service}
    return told(labels, {}, START + timedelta(seconds=at_s))


def case(*alerts: Sample, root: int) -> Case:
    return Case(list(alerts), frozenset([key_of(alerts[root])]))


def test_hits_are_the_mean_over_all_orders_of_a_tie() -> None:
    four = case(*(alert(f"A{n}", 0) for n in range(4)), root=2)
    assert hits(four, BASELINES["random"]) == [0.25, 0.75, 1.0]
    assert hits(four, BASELINES["earliest"]) == [0.25, 0.75, 1.0]
    behind = case(alert("First", 0), *(alert(f"A{n}", 5) for n in range(4)), root=3)
    assert hits(behind, BASELINES["earliest"]) == [0.0, 0.5, 1.0]


def test_baselines_rank_as_they_are_called() -> None:
    worst = case(alert("Early", 0), alert("Worst", 9, "critical", "db"), alert("Other", 4), root=1)
    assert hits(worst, BASELINES["severity, then earliest"])[0] == 1.0
    assert hits(worst, BASELINES["earliest"]) == [0.0, 1.0, 1.0]
    assert hits(worst, BASELINES["alert count, then earliest"]) == [0.0, 1.0, 1.0]


def test_what_never_alerted_is_a_miss_for_everybody() -> None:
    lost = Case([alert("A", 0), alert("B", 1)], frozenset())
    assert all(hits(lost, key) == [0.0, 0.0, 0.0] for key in BASELINES.values())
    assert lost.named() is None


def metrics(path: Path, latencies: list[float], first_s: int) -> None:
    """Write the latency of one component as PetShop has it."""
    path.parent.mkdir(parents=True)
    lines = ["microservice,db", "metric,latency", "statistic,Average", "unix_timestamp,"]
    lines += [f"{first_s + 300 * row},{value}" for row, value in enumerate(latencies)]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    quiet = [1.0 + (row % 10) / 100 for row in range(40)]
    quiet[33] = 2.0
    metrics(tmp_path / "noissue" / "metrics.csv", quiet, 0)
    metrics(tmp_path / "test" / "issue_0" / "metrics.csv", [1.0, 9.0, 9.0, 1.0, 9.0], 90_000)
    target = {"root_cause": {"node": "db"}}
    (tmp_path / "test" / "issue_0" / "target.json").write_text(json.dumps(target))
    (tmp_path / "graph.csv").write_text(",shop,db\nshop,0.0,1.0\ndb,0.0,0.0\n")
    return Shop(tmp_path)


def test_what_exceeds_the_first_quiet_day_fires_once_while_it_does(shop: Shop) -> None:
    (issue,) = shop.issues("test")
    assert issue.root == "db"
    assert [(each.at_s, each.name) for each in issue.alerts] == [
        (90_600.0, "LatencyHigh"),
        (91_500.0, "LatencyHigh"),
    ]


def test_quiet_periods_are_those_of_the_second_half(shop: Shop) -> None:
    assert [len(period) for period in shop.quiet()] == [0, 0, 1, 0]
    assert shop.topology() == [("shop", "db")]
