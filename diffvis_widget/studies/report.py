"""One page about a study: what was run, tables, charts, images, and the runs whose traces were stored.

The page makes no request; a Content-Security-Policy enforces that, whatever a prompt contains. Each stored run is a
page of its own in a sandboxed frame.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffvis_widget import front_end
from diffvis_widget.export.html import page as run_page
from diffvis_widget.traces.html_summary import number

from .charts import COLOURS, chart, group_curves
from .columns import BASE, Kind
from .paired import compare_conditions
from .series import NUMERIC, curves_of

MAX_RUNS, MAX_IMAGES, _MAX_ERRORS = 8, 400, 50
_STYLE = """
:root{color-scheme:light dark}
body{margin:24px auto;max-width:1000px;padding:0 16px;font:14px/1.5 system-ui,sans-serif;
background:light-dark(#fff,#141518);color:light-dark(#1d1f23,#ecedef)}
h1{font-size:22px;margin:0 0 4px}h2{font-size:16px;margin:28px 0 8px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:3px 14px 3px 0;border-bottom:1px solid light-dark(#e3e5e8,#2c2f34);vertical-align:top}
.wide{overflow-x:auto}.quiet{color:light-dark(#5b616b,#a5abb5)}
code{white-space:pre-wrap;overflow-wrap:anywhere}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:16px}
figure{margin:0}figcaption{font-size:13px}svg{width:100%;height:auto}
svg .axis{font:11px system-ui,sans-serif;fill:light-dark(#5b616b,#a5abb5)}
svg .frame{fill:none;stroke:light-dark(#c4c9d0,#464b53)}
.key{display:inline-block;width:10px;height:10px;border-radius:2px;margin:0 5px 0 12px}
.images{display:grid;grid-template-columns:repeat(auto-fill,minmax(96px,1fr));gap:8px}
.images img{width:100%;border-radius:4px;display:block}.images span{font-size:11px;display:block;overflow-wrap:anywhere}
iframe{width:100%;height:760px;border:1px solid light-dark(#e3e5e8,#2c2f34);border-radius:6px}
summary{cursor:pointer;padding:4px 0}
"""


def report_page(
    table: Any,
    columns: Mapping[str, Kind],
    about: Mapping[str, Any],
    settings: Mapping[str, Any],
    total: int,
    runs: Any,
) -> str:
    """Make the page.

    Args:
        table: The whole table, a pyarrow Table.
        columns: Kinds by column.
        about: What the study stores about itself.
        settings: Its settings.
        total: Number of rows that it will have.
        runs: (title, Trace) pairs of stored runs, at most `MAX_RUNS` of which are read.

    Returns:
        HTML.
    """
    failed = np.array([error is not None for error in table.column("error").to_pylist()])
    succeeded = table.filter(~failed)
    conditions = list(settings["conditions"])
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(conditions)}
    names = [name for name, kind in columns.items() if kind in NUMERIC and name not in BASE]
    shown_runs = [(title, run_page([trace])) for title, trace in runs]
    parts = [
        _facts(table, about, settings, total),
        _key(colours),
        _charts(succeeded, names, columns, colours),
        _means(succeeded, [name for name in names if columns[name] in ("number", "flag")], conditions),
        *(_comparison(succeeded, conditions[0], name, names) for name in conditions[1:]),
        _images(succeeded),
        _runs(shown_runs),
        _errors(table.filter(failed)),
    ]
    script = front_end.standalone()[0] if shown_runs else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    scripts = f"'sha256-{digest}'" if script else "'none'"
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Study</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _text(value: Any) -> str:
    return html.escape(str(value).encode("utf-8", "replace").decode())


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _facts(table: Any, about: Mapping[str, Any], settings: Mapping[str, Any], total: int) -> str:
    failed = table.num_rows - table.column("error").null_count
    prompts = len(set(table.column("prompt").to_pylist()))
    measures = [measure["name"] for measure in settings["measures"]]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    rows = [
        ("model", f"{about['model'] or 'the built-in scenes model'}, fingerprint {settings['fingerprint']}"),
        ("measures", ", ".join(measures)),
        *((f"condition {name}", condition or "no settings") for name, condition in settings["conditions"].items()),
        ("settings of all runs", settings["arguments"] or "those of the pipeline"),
        ("versions", versions),
        ("made", about["date"]),
    ]
    counted = f"{table.num_rows} of {total} rows, {failed} failed, {prompts} prompts"
    command = f"<p>Command: <code>{_text(about['command'])}</code></p>" if about["command"] else ""
    return f'<h1>Study</h1><p class="quiet">{counted}</p>{_table(("", ""), rows)}{command}'


def _key(colours: Mapping[str, str]) -> str:
    keys = "".join(
        f'<span class="key" style="background:{colour}"></span>{_text(name)}' for name, colour in colours.items()
    )
    note = "Means over prompts; bands are 95 % intervals by the bootstrap over prompts, from eight prompts on."
    return f'<h2>Curves over the steps</h2><p>{keys}</p><p class="quiet">{note}</p>'


def _charts(table: Any, names: Sequence[str], columns: Mapping[str, Kind], colours: Mapping[str, str]) -> str:
    groups, prompts = (table.column(name).to_pylist() for name in ("condition", "prompt"))
    figures: list[str] = []
    for name in names:
        if columns[name] in ("number", "flag") or name in ("overlap", "scores_emergence"):  # no curves over steps
            continue
        curves = group_curves(curves_of(table, name), groups, prompts)
        if curves and len(curves[0].mean) > 1:
            figures.append(f"<figure>{chart(name, curves, colours)}<figcaption>{_text(name)}</figcaption></figure>")
    return f'<div class="charts">{"".join(figures)}</div>' if figures else "<p>No measure has curves.</p>"


def _means(table: Any, names: Sequence[str], conditions: Sequence[str]) -> str:
    if not names:
        return ""
    groups, prompts = (table.column(name).to_pylist() for name in ("condition", "prompt"))
    rows: list[list[str]] = []
    for name in names:
        by_group = {curve.name: curve for curve in group_curves(curves_of(table, name), groups, prompts)}
        cells = [number(float(by_group[group].mean[0])) if group in by_group else "–" for group in conditions]
        rows.append([name, *cells])
    return "<h2>Means</h2>" + _table(("measure", *conditions), rows)


def _comparison(table: Any, a: str, b: str, names: Sequence[str]) -> str:
    result = compare_conditions(table, a, b, names, None, "mean")
    note = "Differences within a prompt and seed, bootstrap over prompts, p-values corrected by Holm's method."
    heads = ("measure", "mean difference", "95 % interval", "p, corrected", "prompts")
    title = f"<h2>{_text(b)} minus {_text(a)}</h2>"
    return f'{title}<p class="quiet">{note}</p>{_table(heads, result.rows())}' if names else ""


def _images(table: Any) -> str:
    rows = table.select(["prompt", "seed", "condition", "thumbnail"]).slice(0, MAX_IMAGES).to_pylist()
    cells: list[str] = []
    for row in rows:
        if row["thumbnail"]:
            source = f"data:image/webp;base64,{base64.b64encode(row['thumbnail']).decode()}"
            caption = f"{row['prompt']} · seed {row['seed']} · {row['condition']}"
            image = f'<img alt="{_text(row["prompt"])}" src="{source}">'
            cells.append(f"<div>{image}<span>{_text(caption)}</span></div>")
    more = f" (the first {MAX_IMAGES})" if table.num_rows > MAX_IMAGES else ""
    return f'<h2>Final images{more}</h2><div class="images">{"".join(cells)}</div>'


def _runs(runs: Sequence[tuple[str, str]]) -> str:
    frames = [
        f'<details><summary>{_text(title)}</summary><iframe loading="lazy" title="{_text(title)}" '
        f'sandbox="allow-scripts allow-downloads" srcdoc="{html.escape(content)}"></iframe></details>'
        for title, content in runs
    ]
    return f"<h2>Stored runs</h2>{''.join(frames)}" if frames else ""


def _errors(table: Any) -> str:
    rows = table.select(["row", "prompt", "seed", "condition", "error"]).slice(0, _MAX_ERRORS).to_pylist()
    return "<h2>Failed rows</h2>" + _table(list(rows[0]), [list(row.values()) for row in rows]) if rows else ""
