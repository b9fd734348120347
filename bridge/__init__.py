"""Tocsin: many alerts in, few explained incidents out. See README.md for the way through the rooms."""

from __future__ import annotations

__version__ = "0.1.0"
