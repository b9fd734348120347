"""`python -m bridge.telemetry > docs/metrics.md`."""

from __future__ import annotations

import sys

from bridge.telemetry import document

if __name__ == "__main__":
    sys.stdout.write(document())
