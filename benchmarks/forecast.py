"""Forecasts: are they better than an adaptive rate where they are published, and silent where there is nothing to see?

    python benchmarks/forecast.py --data DIR [--nulls 100] [--null-days 365] [--jobs 2]

DIR holds `github_status_to_2025.csv` and `bluegene_l.csv`. Horizon 4 h, an origin every hour. All forecasts are
prequential, by the same path as `tocsin backtest`.

Compared are: `model`, what Tocsin's models say, published or not; `given`, what it gives (the reference's where it did
not earn the right to publish); `reference`, the adaptive gamma-Poisson rate by the hour of the week that the right is
earned against; `rate x hour`, a plainer one (half-life 30 days, an hour of the day and a day of the week, each shrunk
by ten pseudo-events), that others may call the adaptive reference; `logistic`, the known baseline: how long ago the
last events were and the calendar, scikit-learn's logistic regression fitted on the first half.

Skill is 1 - Brier / Brier of the reference. Gain is the log score's, in thousandths of a nat per horizon. Slope is
that of the outcomes on the log odds (1: means what it says). `silent`: share of the origins.

How the choices were made: on generated series of other seeds and on the first half, by time, of each file. The second
half is there to be reported; docs/forecasts.md says when it was seen.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from benchmarks.parts.events import null, recorded, remembering
from bridge.analysis.forecast.features import features, kinds_of
from bridge.analysis.forecast.forecaster import Forecaster
from bridge.analysis.forecast.logistic import logit
from bridge.analysis.forecast.occurrences import Occurrences
from bridge.app.backtesting import origins_of

HORIZON_S, STEP_S = 4 * 3600.0, 3600.0
FILES = ("github_status_to_2025.csv", "bluegene_l.csv")
TOLD = ("reference", "said", "probability", "published")
FIRST_SEED = 20_000  # those below were chosen with


@dataclass(frozen=True, slots=True)
class Run:
    """One series, forecast."""

    events: Occurrences
    origins: np.ndarray
    happened: np.ndarray
    reference: np.ndarray
    said: np.ndarray
    given: np.ndarray
    published: np.ndarray


def run(events: Occurrences) -> Run:
    first, number = origins_of(events, horizon_s=HORIZON_S, step_s=STEP_S)
    origins = np.arange(first, first + number) * STEP_S
    forecaster = Forecaster(since_s=float(events.starts[0]), horizon_s=HORIZON_S, step_s=STEP_S)
    found = list(forecaster.forecasts(origins, events))
    return Run(
        events, origins, events.begun(origins, origins + HORIZON_S) > 0,
        *(np.array([getattr(each, name) for each in found]) for name in TOLD),
    )  # fmt: skip


# ---- what it is compared with ----------------------------------------------------------------------------


def plain_rate(each: Run, half_life_s: float = 30 * 86_400.0, prior: float = 10.0) -> np.ndarray:
    """Return a plainer reference's probabilities: one half-life, hour of the day times day of the week."""
    by_hour, by_day = np.zeros(24), np.zeros(7)
    seen_hours, seen_days = np.zeros(24), np.zeros(7)
    count, exposure, at_s, said = 0.5, 12.0, each.events.starts[0], []
    for origin in each.origins.tolist():
        kept = 0.5 ** ((origin - at_s) / half_life_s)
        number = int(each.events.begun(at_s, np.array([origin]))[0])
        hour, day = int(at_s // 3600 % 24), int(at_s // 86_400 + 3) % 7
        factor = _factor(by_hour, seen_hours, prior), _factor(by_day, seen_days, prior)
        count = count * kept + number
        exposure = exposure * kept + (origin - at_s) / 3600 * factor[0][hour] * factor[1][day]
        by_hour[hour] += number
        by_day[day] += number
        seen_hours[hour] += (origin - at_s) / 3600
        seen_days[day] += (origin - at_s) / 3600
        ahead = (origin + 3600.0 * np.arange(4)) // 3600
        span = sum(factor[0][int(each % 24)] * factor[1][int(each // 24 + 3) % 7] for each in ahead)
        said.append(1.0 - (exposure / (exposure + span)) ** count)
        at_s = origin
    return np.clip(np.array(said), 1e-6, 1 - 1e-6)


def _factor(counts: np.ndarray, seen: np.ndarray, prior: float) -> np.ndarray:
    expected = seen * counts.sum() / max(seen.sum(), 1.0)
    found: np.ndarray = (counts + prior) / (expected + prior)
    return found


def known_baseline(each: Run) -> np.ndarray:
    """Return what recency and calendar say, fitted once on the first half."""
    rows = features(each.origins, each.events)
    few = rows[:, [number for number, kind in enumerate(kinds_of(1)) if kind in {"few", "calendar"}]]
    half = len(rows) // 2
    mean, scale = few[:half].mean(axis=0), few[:half].std(axis=0) + 1e-6
    fitted = LogisticRegression(C=0.1, max_iter=2000).fit((few[:half] - mean) / scale, each.happened[:half])
    return np.clip(fitted.predict_proba((few - mean) / scale)[:, 1], 1e-6, 1 - 1e-6)


# ---- figures ---------------------------------------------------------------------------------------------


def log_score(said: np.ndarray, happened: np.ndarray) -> np.ndarray:
    return np.where(happened, np.log(said), np.log1p(-said))


def slope(said: np.ndarray, happened: np.ndarray) -> float:
    if happened.all() or not happened.any():
        return float("nan")
    fitted = LogisticRegression(C=1e6, max_iter=2000).fit(logit(said)[:, None], happened)
    return float(fitted.coef_[0, 0])


def row(name: str, said: np.ndarray, each: Run, where: np.ndarray) -> str:
    happened, reference, said = each.happened[where], each.reference[where], said[where]
    brier = ((said - happened) ** 2).mean()
    skill = 1 - brier / ((reference - happened) ** 2).mean()
    gain = 1000 * (log_score(said, happened) - log_score(reference, happened)).mean()
    return (
        f"| {name} | {roc_auc_score(happened, said):.3f} | {brier:.4f} | {skill:+.4f} | {gain:+.2f} |"
        f" {slope(said, happened):.2f} |"
    )


def tell(name: str, each: Run) -> None:
    half = np.arange(len(each.origins)) >= len(each.origins) // 2
    plain, known = plain_rate(each), known_baseline(each)
    for part, where in (("first half", ~half), ("second half", half)):
        silent = 1 - each.published[where].mean()
        base = each.happened[where].mean()
        print(f"\n{name}, {part}: {where.sum():,} origins, base rate {base:.3f}, silent {silent:.0%}\n")
        print("| | AUROC | Brier | skill | gain | slope |\n|---|---|---|---|---|---|")
        print(row("given", each.given, each, where))
        print(row("model", each.said, each, where))
        print(row("reference", each.reference, each, where))
        print(row("rate x hour", plain, each, where))
        if part == "second half":
            print(row("logistic", known, each, where))
        shown = where & each.published
        if shown.any() and 0 < each.happened[shown].sum() < shown.sum():
            print(row("given, where published", each.given, each, shown))
        gain = log_score(each.given, each.happened) - log_score(plain, each.happened)
        skill = (
            1
            - ((each.given - each.happened)[where] ** 2).mean() / ((plain - each.happened)[where] ** 2).mean()
        )
        print(f"\nGiven against `rate x hour`: skill {skill:+.4f}, gain {1000 * gain[where].mean():+.2f}")


def one_null(seed: int, days: int) -> tuple[str, float, float]:
    kind, events = null(seed, days=days)
    each = run(events)
    gain = (log_score(each.said, each.happened) - log_score(each.reference, each.happened)).mean()
    return kind, float(each.published.mean()), 1000 * float(gain)


def tell_nulls(found: Iterable[tuple[str, float, float]], days: int) -> None:
    kinds: dict[str, list[tuple[float, float]]] = {}
    for kind, published, gain in found:
        kinds.setdefault(kind, []).append((published, gain))
    print(f"\nChance alone, {days} days each\n")
    print("| rate | series | silent throughout | origins published | gain |\n|---|---|---|---|---|")
    every = [each for mine in kinds.values() for each in mine]
    for kind, mine in [*sorted(kinds.items()), ("all", every)]:
        silent = sum(published == 0.0 for published, _ in mine)
        shares, gains = zip(*mine, strict=True)
        print(f"| {kind} | {len(mine)} | {silent} | {np.mean(shares):.2%} | {np.mean(gains):+.2f} |")


def one_remembering(seed: int, days: int, follow: float) -> tuple[float, float, float]:
    each = run(remembering(seed, days=days, follow=follow))
    half = np.arange(len(each.origins)) >= len(each.origins) // 2
    gain = (log_score(each.said, each.happened) - log_score(each.reference, each.happened))[half].mean()
    first = float(np.argmax(each.published)) / 24 if each.published.any() else float("nan")
    return float(each.published[half].mean()), 1000 * float(gain), first


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the directory of the recorded events")
    parser.add_argument("--nulls", type=int, default=100)
    parser.add_argument("--null-days", type=int, default=365)
    parser.add_argument("--signals", type=int, default=6, help="series with a memory, of each strength")
    parser.add_argument("--jobs", type=int, default=2)
    wishes = parser.parse_args(arguments)
    with ProcessPoolExecutor(wishes.jobs) as pool:
        files = [wishes.data / name for name in FILES] if wishes.data else []
        for path, each in zip(files, pool.map(run, [recorded(path) for path in files]), strict=True):
            tell(path.name, each)
        seeds = range(FIRST_SEED, FIRST_SEED + wishes.nulls)
        if wishes.nulls:
            tell_nulls(pool.map(partial(one_null, days=wishes.null_days), seeds), wishes.null_days)
        if wishes.signals:
            print("\nOne event a day, each brings others, 365 days, second half\n")
            print("| others per event | published | gain | first published after, days |\n|---|---|---|---|")
            for follow in (0.2, 0.4, 0.6):
                seeds = range(FIRST_SEED, FIRST_SEED + wishes.signals)
                found = list(pool.map(partial(one_remembering, days=365, follow=follow), seeds))
                share, gain, first = (np.array(column) for column in zip(*found, strict=True))
                when = f"{np.nanmedian(first):.0f}" if np.isfinite(first).any() else "never"
                print(f"| {follow} | {share.mean():.0%} | {gain.mean():+.2f} | {when} |")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
