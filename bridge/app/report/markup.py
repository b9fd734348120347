"""Markup: text for a page, tables, and the page around them.

Rules: every text from outside goes through `escaped`: labels and titles are hostile. The page is well-formed XML as
well as HTML, holds no script, and forbids itself to load anything (Content-Security-Policy).
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from bridge.app.screen import plain

LONGEST_TEXT = 400  # characters
#: What XML cannot hold besides control characters.
_NONE = dict.fromkeys((0xFFFE, 0xFFFF))

STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #5b6472; --rule: #d9dde3; --paper: #fff; --box: #f5f6f8;
  --main: #2f6fb2; --faint: #9dbfe0; --critical: #c0362c; --warning: #c98a12; --info: #6f8296; --level: #8a4fb0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --soft: #9aa5b4; --rule: #38414d; --paper: #14181d;
  --box: #1c2229; --main: #6aa9e6; --faint: #35506b; --critical: #ec6a5f; --warning: #e0ae4a; --info: #8fa3b8;
  --level: #c08ae0; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 52rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.4rem; border-top: 1px solid var(--rule);
  padding-top: 1rem; } h3 { font-size: 1rem; margin-bottom: .3rem; } h1, h2, h3 { overflow-wrap: anywhere; }
p.soft, figcaption, td.soft { color: var(--soft); } p { max-width: 46rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: .6rem 0; } .wide { overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--rule);
  overflow-wrap: anywhere; } th { color: var(--soft); font-weight: 600; } td.n, th.n { text-align: right; }
figure { margin: .8rem 0; } figcaption { font-size: .87rem; } details { margin: .6rem 0; } summary { cursor: pointer; }
svg { max-width: 100%; height: auto; display: block; background: var(--box); border-radius: 4px; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); } svg path { fill: none; stroke-linejoin: round;
  stroke-linecap: round; stroke-width: 1.6; } .grid { stroke: var(--rule); } .level { stroke: var(--level);
  stroke-dasharray: 5 4; } svg .rug { stroke: var(--critical); } .whisker { stroke: var(--soft); }
svg .value, svg .given, svg .evidence { stroke: var(--main); } svg .usual { stroke: var(--info); }
svg .score { stroke: var(--critical); } svg .band { fill: var(--faint); stroke: none; }
.alerts { fill: var(--main); } .critical { fill: var(--critical); } .warning { fill: var(--warning); }
.info { fill: var(--info); } .said { fill: var(--main); }
""".strip()


def escaped(text: object) -> str:
    """Return text from anywhere as markup: one line, nothing in it but itself, cut at `LONGEST_TEXT`."""
    shown = plain(text).translate(_NONE)
    if len(shown) > LONGEST_TEXT:
        shown = shown[: LONGEST_TEXT - 1] + "…"
    return html.escape(shown)


def said(text: object) -> str:
    """Return a paragraph."""
    return f"<p>{escaped(text)}</p>"


def aside(text: object) -> str:
    """Return a paragraph that explains."""
    return f'<p class="soft">{escaped(text)}</p>'


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; columns whose head ends in `#` hold numbers."""
    styles = [' class="n"' if head.endswith("#") else "" for head in heads]
    top = "".join(
        f"<th{style}>{escaped(head.rstrip('#'))}</th>" for head, style in zip(heads, styles, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{style}>{escaped(cell)}</td>" for cell, style in zip(row, styles, strict=True))
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def figure(svg: str, caption: str) -> str:
    """Return a plot with what it shows below."""
    return f"<figure>{svg}<figcaption>{escaped(caption)}</figcaption></figure>"


def folded(name: str, inside: str) -> str:
    """Return what is shown when it is asked for."""
    return f"<details><summary>{escaped(name)}</summary>{inside}</details>"


def page(title: str, parts: Iterable[str]) -> bytes:
    """Return the whole page, UTF-8."""
    return (
        '<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml" lang="en"><head><meta charset="utf-8"/>'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>"
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escaped(title)}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    ).encode()
