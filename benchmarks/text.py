"""What the text side costs: microseconds per template, milliseconds per vector, seconds per family fit.

    python benchmarks/text.py --data DIR [--texts 100] [--fits 500 2000 5000]

Alerts are made from the public rules in `--data` (JSON lines with `alert`, `labels`, `annotations`): each
rule fires for several hosts with other values. CPU time, since wall time of a shared machine says little.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec

from bridge.analysis.families import FitAsk
from bridge.analysis.text import TemplateCache, template_of
from bridge.app import models_child
from bridge.model import Alert, Template

WHEN = datetime(2026, 11, 23, tzinfo=UTC)
ALERTS_PER_RULE = 10
BRACES = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
LABEL = re.compile(r"[lL]abels\.(\w+)")


def rules_in(folder: Path) -> list[dict[str, Any]]:
    files = sorted(path for path in folder.glob("*.jsonl") if not path.name.startswith("_"))
    lines = (json.loads(line) for path in files for line in path.read_text().splitlines())
    return [rule for rule in lines if rule.get("alert") and rule.get("annotations")]


def fired(rule: dict[str, Any], number: int, dice: random.Random) -> Alert:
    host = f"{dice.choice(['web', 'db', 'ip-10-0-3', 'node'])}-{dice.randrange(500)}"
    labels = {
        "alertname": rule["alert"],
        "cluster": dice.choice(["eu-1", "us-2"]),
        "namespace": dice.choice(["billing", "checkout", "kube-system"]),
        "pod": f"{host}-{dice.getrandbits(40):010x}-x2x4z",
        "instance": f"{host}:9100",
        "job": "node-exporter",
        **{key: value for key, value in rule.get("labels", {}).items() if "{{" not in value},
    }
    unit = dice.choice(["", "%", "ms", "Gi"])

    def value(match: re.Match[str]) -> str:
        label = LABEL.search(match[1])
        if label:
            return labels.setdefault(label[1], f"{label[1]}-{dice.randrange(100)}")
        return f"{dice.uniform(0, 1000):.4g}{unit}"

    annotations = {key: BRACES.sub(value, text) for key, text in rule["annotations"].items()}
    return Alert(
        tenant="default",
        source="default",
        fingerprint=f"{number:016x}",
        labels=labels,
        annotations=annotations,
        firing=True,
        starts_at=WHEN,
        ends_at=None,
    )


def cpu_s(function: Callable[[], object]) -> float:
    before = time.process_time()
    function()
    return time.process_time() - before


def best_us(function: Callable[[Alert], object], alerts: list[Alert], rounds: int = 5) -> float:
    def once() -> None:
        for alert in alerts:
            function(alert)

    return min(cpu_s(once) for _ in range(rounds)) / len(alerts) * 1e6


def texts(rules: list[dict[str, Any]]) -> list[Template]:
    dice = random.Random(1)
    alerts = [fired(rule, number, dice) for number, rule in enumerate(rules * ALERTS_PER_RULE)]
    said = {tuple(sorted(alert.annotations.items())) for alert in alerts}
    made = {template.id: template for template in map(template_of, alerts)}
    print(f"{len(rules)} rules, {len(alerts)} alerts, {len(said)} distinct texts -> {len(made)} templates")
    few = alerts[:10_000]
    cache = TemplateCache()
    resent = msgspec.msgpack.decode(msgspec.msgpack.encode(few), type=list[Alert])
    print(f"template_of          {best_us(template_of, alerts):6.1f} us per alert   (at most 25)")
    best_us(cache.template_of, few, 1)
    print(f"TemplateCache, known {best_us(cache.template_of, resent):6.1f} us per alert   (about 1)")
    return list(made.values())


def resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def vectors(templates: Iterable[Template], count: int) -> None:
    from bridge import encoder  # noqa: PLC0415  (loads torch in the process that is measured)

    some = [template.text for template in templates][:count]
    before = time.perf_counter()
    minilm = encoder.load()
    print(f"load {minilm.model}: {time.perf_counter() - before:.1f} s wall")
    minilm.encode(some[:3])
    encoded_s = cpu_s(lambda: minilm.encode(some))
    print(f"encode {encoded_s / len(some) * 1e3:.1f} ms per text, one at a time, one thread")
    print(f"memory with the model: {resident_mb():.0f} MB")


def fits(sizes: Iterable[int]) -> None:
    import numpy as np  # noqa: PLC0415  (only here)

    for size in sizes:
        dice = np.random.default_rng(size)
        centres = dice.normal(size=(size // 25, 384))
        points = centres[dice.integers(0, len(centres), size)] + 0.25 * dice.normal(size=(size, 384))
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        rows = [(f"{number:08x}", point.astype("<f2").tobytes(), "") for number, point in enumerate(points)]
        known, new = FitAsk(tenant=str(size), fit=1, templates=tuple(rows[:-20])), rows[-20:]
        assign: dict[str, str] = {}
        seconds = cpu_s(lambda known=known, assign=assign: assign.update(models_child.fit_families(known)))
        fresh = tuple((key, vector) for key, vector, _ in new)
        predicted_s = cpu_s(lambda size=size, fresh=fresh: models_child.predict_families(str(size), 1, fresh))
        families = {family for family in assign.values() if family.startswith("f:")}
        print(
            f"fit {size} templates: {seconds:.1f} s, {len(families)} families of {len(centres)}; "
            f"predict {predicted_s / len(new) * 1e3:.1f} ms per template; memory {resident_mb():.0f} MB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with rules as JSON lines")
    parser.add_argument("--texts", type=int, default=100, help="how many texts to encode")
    parser.add_argument("--fits", type=int, nargs="*", default=[500, 2000, 5000], help="sizes to fit")
    wishes = parser.parse_args()
    templates = texts(rules_in(wishes.data))
    # One process after the other, each started anew, so that its memory is its own.
    for work, arguments in ((vectors, (templates, wishes.texts)), (fits, (wishes.fits,))):
        process = get_context("spawn").Process(target=work, args=arguments)
        process.start()
        process.join()


if __name__ == "__main__":
    main()
