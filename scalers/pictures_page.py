"""One HTML file with a picture and its numbers: no script, nothing loaded from anywhere."""

from collections.abc import Sequence
from html import escape

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #22262b; max-width: 1200px; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.4rem; margin-bottom: .3rem; }
p.said { font-size: 1.05rem; background: #eef4fb; border-left: 4px solid #2f6fb7;
         padding: .6rem .9rem; }
svg { width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #e6e8eb; }
th:first-child, td:first-child { text-align: left; }
tr.chosen td { background: #eef4fb; font-weight: 600; }
tr.base td { background: #fbeeed; }
"""


def page(
    title: str,
    said: Sequence[str],
    svg: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[str]]],
) -> str:
    """The page. Each row has a class (`chosen`, `base` or nothing) and its cells, as plain text."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "\n".join(
        f'<tr class="{escape(kind)}">'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for kind, cells in rows
    )
    told = "\n".join(f'<p class="said">{escape(line)}</p>' for line in said)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n{told}\n{svg}\n"
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>\n"
        "</body></html>\n"
    )
