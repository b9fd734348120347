"""Every captured webhook through `tocsin replay`: no crash, and every alert that was sent stands in one incident.

    python benchmarks/captured.py --data DIR [--models]

DIR holds folders of webhook bodies, one JSON file each, as Alertmanager sent them (other JSON files, API dumps for
example, are told apart by what they lack). Each folder is replayed by itself, then all of them together. For every
alert of the input the same alert must be in the output: in exactly one incident per episode, whether it was ever
seen firing or only resolved. Exit 0: nothing was lost.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def webhooks_in(folder: Path) -> list[Path]:
    """Return the files that are webhook bodies."""
    found = []
    for path in sorted(folder.glob("*.json")):
        body = json.loads(path.read_bytes())
        if isinstance(body, dict) and isinstance(body.get("alerts"), list) and "groupKey" in body:
            found.append(path)
    return found


def replayed(files: Sequence[Path], *, models: bool) -> list[dict]:
    """Return the incidents that a replay of the files gives."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "incidents.jsonl"
        command = [sys.executable, "-m", "bridge", "replay", *map(str, files), "--incidents", str(out)]
        done = subprocess.run(
            [*command, *([] if models else ["--no-models"])], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"the replay ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return [json.loads(line) for line in out.read_text("utf-8").splitlines()]


def judge(name: str, files: Sequence[Path], *, models: bool) -> bool:
    """Replay, compare what went in with what came out, print one row, say whether nothing is missing."""
    sent = [alert for path in files for alert in json.loads(path.read_bytes())["alerts"]]
    alerts = {alert["fingerprint"] for alert in sent}
    fired = {alert["fingerprint"] for alert in sent if alert["status"] == "firing"}
    incidents = replayed(files, models=models)
    episodes = [
        (each["source"], each["fingerprint"], each["starts_at"])
        for one in incidents
        for each in one["episodes"]
    ]
    lost = alerts - {fingerprint for _, fingerprint, _ in episodes}
    twice = sum(times > 1 for times in Counter(episodes).values())
    empty = sum(not one["episodes"] and not one["merged_into"] for one in incidents)
    print(
        f"{name:32} {len(files):4} webhooks {len(sent):5} alerts, {len(alerts):4} different "
        f"({len(alerts - fired)} only seen resolved) -> {len(incidents):4} incidents; "
        f"lost {len(lost)}, twice {twice}, without alerts {empty}"
    )
    return not (lost or twice or empty)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", action="store_true", help="with the encoder")
    given = parser.parse_args()
    folders = {folder.name: webhooks_in(folder) for folder in sorted(given.data.iterdir()) if folder.is_dir()}
    found = {name: files for name, files in folders.items() if files}
    if not found:
        raise SystemExit(f"no webhook bodies in the folders of {given.data}")
    found["all together"] = [path for files in found.values() for path in files]
    good = [judge(name, files, models=given.models) for name, files in found.items()]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
