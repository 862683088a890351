"""One page about a study: what was run, tables, charts, images, and the runs whose traces were stored.

The page makes no request; a Content-Security-Policy enforces that, whatever a prompt contains. Each stored run is a
page of its own in a sandboxed frame.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffvis_widget import front_end
from diffvis_widget.export.html import page as run_page
from diffvis_widget.intervals import FEWEST_PAIRS
from diffvis_widget.traces.html_summary import number

from .charts import COLOURS, GroupCurve, chart, group_curves
from .manifest import Manifest
from .paired import PairedComparison, compare_columns, correct_together
from .prompts import PromptRow
from .quantities import Quantity, quantities_of
from .report_style import STYLE
from .series import By, Doubles, curves_of, reduced
from .settings_text import call_text, settings_text

MAX_RUNS, MAX_IMAGES, _MAX_ERRORS = 8, 400, 50


def report_page(name: str, table: Any, manifest: Manifest, prompts: Sequence[PromptRow], total: int, runs: Any) -> str:
    """Make the page.

    Args:
        name: Name of the study's folder.
        table: The whole table, a pyarrow Table.
        manifest: Its description.
        prompts: Its prompts.
        total: Number of rows that it will have.
        runs: (title, Trace) pairs of stored runs, at most `MAX_RUNS` of which are read.

    Returns:
        HTML.
    """
    settings, about = manifest.settings, manifest.about
    failed = np.array([error is not None for error in table.column("error").to_pylist()])
    succeeded = table.filter(~failed)
    conditions = list(settings["conditions"])
    colours = {condition: COLOURS[index % len(COLOURS)] for index, condition in enumerate(conditions)}
    quantities = quantities_of(succeeded, manifest.columns, about, settings)
    shown_runs = [(title, run_page([trace])) for title, trace in runs]
    stored = table.num_rows - table.column("trace_file").null_count
    parts = [
        _facts(name, table, manifest, total),
        _call(name, manifest, prompts),
        _charts(succeeded, quantities, colours),
        _means(succeeded, quantities, conditions),
        _comparisons(succeeded, quantities, conditions),
        _images(table, conditions),
        _runs(shown_runs, stored),
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
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>Study {_text(name)}</title>'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _text(value: Any) -> str:
    return html.escape(str(value).encode("utf-8", "replace").decode())


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]], bold: Sequence[bool] = ()) -> str:
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in heads)
    body = ""
    for row, is_bold in zip(rows, bold or [False] * len(rows), strict=True):
        body += '<tr class="found">' if is_bold else "<tr>"
        body += "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>"
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _facts(name: str, table: Any, manifest: Manifest, total: int) -> str:
    settings, about = manifest.settings, manifest.about
    failed = table.num_rows - table.column("error").null_count
    prompts = len(set(table.column("prompt").to_pylist()))
    seeds = len(set(table.column("seed").to_pylist()))
    measures = [
        measure["name"] + (f" ({settings_text(measure['options'])})" if measure["options"] else "")
        for measure in settings["measures"]
    ]
    versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
    rows = [
        ("model", f"{about['model'] or 'the built-in scenes model'}, fingerprint {settings['fingerprint']}"),
        ("measures", ", ".join(measures) or "none"),
        *(
            (f"condition {condition}", settings_text(values) or "no settings of its own")
            for condition, values in settings["conditions"].items()
        ),
        ("settings of all runs", settings_text(settings["arguments"]) or "those of the pipeline"),
        ("torch threads", settings["threads"]),
        ("versions", versions or "not stored"),
        ("made", about["date"].replace("T", " ").replace("+00:00", " UTC") or "not stored"),
    ]
    counted = f"{table.num_rows:,} of {total:,} rows, {failed:,} failed, {prompts:,} prompts, {seeds:,} seeds"
    rest = "" if table.num_rows == total else ". The study is not complete: resume it to make the missing rows"
    body = "".join(f'<tr><th scope="row">{_text(key)}</th><td>{_text(value)}</td></tr>' for key, value in rows)
    title = f'<h1>Study {_text(name)}</h1><p class="quiet">{counted}{rest}</p>'
    return f'{title}<div class="wide"><table class="facts">{body}</table></div>'


def _call(name: str, manifest: Manifest, prompts: Sequence[PromptRow]) -> str:
    command = manifest.about["command"]
    call = call_text(manifest.about, manifest.settings, prompts, name)
    parts = [f"<p>Command:</p><pre><code>{_text(command)}</code></pre>"] if command else []
    parts.append(f"<p>{'The same in Python' if command else 'Call'}:</p><pre><code>{_text(call)}</code></pre>")
    return "<h2>How it was made</h2>" + "".join(parts)


def _key(colours: Mapping[str, str]) -> str:
    keys = "".join(
        f'<span class="key"><i style="background:{colour}"></i>{_text(name)}</span>' for name, colour in colours.items()
    )
    return f'<p class="keys">{keys}</p>' if len(colours) > 1 else ""


def _curves(table: Any, quantity: Quantity) -> list[Doubles | None]:
    """A curve of each row; none of the condition that a divergence is measured from."""
    curves = curves_of(table, quantity.column, quantity.by, quantity.item)
    if quantity.base is None:
        return curves
    conditions = table.column("condition").to_pylist()
    return [None if name == quantity.base else curve for curve, name in zip(curves, conditions, strict=True)]


def _charts(table: Any, quantities: Sequence[Quantity], colours: Mapping[str, str]) -> str:
    groups, prompts = (table.column(name).to_pylist() for name in ("condition", "prompt"))
    figures: list[str] = []
    has_unrelated = False
    for quantity in quantities:
        curves = group_curves(_curves(table, quantity), groups, prompts) if quantity.has_steps else []
        if not curves or len(curves[0].mean) < 2:
            continue
        unrelated = _unrelated(table, curves[0]) if quantity.column == "scores_cosine" else None
        has_unrelated |= unrelated is not None
        drawing = chart(quantity.name, curves, colours, unrelated)
        note = f'<span class="quiet">{_text(quantity.note)}</span>' if quantity.note else ""
        figures.append(f"<figure><figcaption><b>{_text(quantity.name)}</b> {note}</figcaption>{drawing}</figure>")
    if not figures:
        return ""
    note = "Means over prompts; bands are 95 % intervals over prompts, by the bootstrap, from eight prompts on."
    note += " Grey: what unrelated words score, from the 5th to the 95th percentile." if has_unrelated else ""
    drawn = f'<div class="charts">{"".join(figures)}</div>'
    return f'<h2>Curves over the steps</h2>{_key(colours)}<p class="quiet">{note}</p>{drawn}'


def _unrelated(table: Any, like: GroupCurve) -> tuple[Doubles, Doubles] | None:
    """The mean null band of all rows, where it has as many steps as a curve."""
    ends: list[Doubles] = []
    for name in ("scores_null_low", "scores_null_high"):
        curves = [curve for curve in curves_of(table, name) if curve is not None and len(curve) == len(like.mean)]
        curves = [curve for curve in curves if np.isfinite(curve).all()]
        if not curves:
            return None
        ends.append(np.mean(curves, axis=0))
    return ends[0], ends[1]


def _means(table: Any, quantities: Sequence[Quantity], conditions: Sequence[str]) -> str:
    groups, prompts = (table.column(name).to_pylist() for name in ("condition", "prompt"))
    rows: list[str] = []
    for quantity in quantities:
        values = [np.array([reduced(curve, "mean")]) for curve in _curves(table, quantity)]
        means = {group.name: group for group in group_curves(values, groups, prompts)}
        if not means:
            continue
        cells = "".join(
            f"<td>{_mean(means.get(condition), condition == quantity.base)}</td>" for condition in conditions
        )
        note = f"<small>{_text(quantity.note)}</small>" if quantity.note else ""
        rows.append(f'<tr><th scope="row">{_text(quantity.name)}{note}</th>{cells}</tr>')
    if not rows:
        return ""
    note = "Means over steps, words and seeds of a prompt, then over prompts, with their 95 % intervals over prompts."
    heads = "".join(f'<th scope="col">{_text(name)}</th>' for name in ("measure", *conditions))
    body = f'<div class="wide"><table class="means"><tr>{heads}</tr>{"".join(rows)}</table></div>'
    return f'<h2>Means</h2><p class="quiet">{note}</p>{body}'


def _mean(group: GroupCurve | None, is_base: bool) -> str:
    if group is None:
        return "base" if is_base else "–"
    low, high = float(group.low[0]), float(group.high[0])
    interval = f"<small>{number(low)} to {number(high)}</small>" if np.isfinite([low, high]).all() else ""
    return number(float(group.mean[0])) + interval


def _comparisons(table: Any, quantities: Sequence[Quantity], conditions: Sequence[str]) -> str:
    """Each condition beside the first. A divergence is a comparison already, and never below 0: it is not tested."""
    tested = [quantity for quantity in quantities if quantity.base is None]
    wanted: list[tuple[str, By | None, str | None]] = [(each.column, each.by, each.item) for each in tested]
    if len(conditions) < 2 or not wanted:
        return ""
    first = conditions[0]
    results = correct_together([compare_columns(table, first, name, wanted, "mean") for name in conditions[1:]])
    tests = sum(int(np.isfinite(result.p).sum()) for result in results)
    note = (
        "Differences within a prompt and seed, averaged over the seeds of a prompt; intervals and p-values by the "
        "bootstrap over prompts. "
    )
    if tests:
        note += f"The p-values are corrected by Holm's method for all {tests} tests of this page; bold: below 0.05."
    else:
        note += f"No difference is tested: that takes {FEWEST_PAIRS} prompts or more, whose differences vary."
    return f'<h2>Comparisons</h2><p class="quiet">{note}</p>' + "".join(map(_comparison, results))


def _comparison(result: PairedComparison) -> str:
    heads = ("measure", "mean difference", "95 % interval", "p, corrected", "prompts")
    below = [bool(p < 0.05) for p in result.p_adjusted]
    return f"<h3>{_text(result.b)} minus {_text(result.a)}</h3>{_table(heads, result.rows(), below)}"


def _images(table: Any, conditions: Sequence[str]) -> str:
    """By prompt: the images of each condition, one for each seed, beside each other."""
    rows = table.select(["prompt", "seed", "condition", "thumbnail"]).slice(0, MAX_IMAGES).to_pylist()
    by_prompt: dict[str, dict[str, list[Any]]] = {}
    for row in rows:
        by_prompt.setdefault(row["prompt"], {}).setdefault(row["condition"], []).append(row)
    parts: list[str] = []
    for prompt, by_condition in by_prompt.items():
        parts.append(f'<h3>{_text(prompt)}</h3><div class="images">')
        for name, group in by_condition.items():
            label = f"<figcaption>{_text(name)}</figcaption>" if len(conditions) > 1 else ""
            parts.append(f"<figure>{label}<div>{''.join(map(_image, group))}</div></figure>")
        parts.append("</div>")
    more = f", the first {MAX_IMAGES} of {table.num_rows:,}" if table.num_rows > MAX_IMAGES else ""
    return f"<h2>Final images{more}</h2>{''.join(parts)}"


def _image(row: Mapping[str, Any]) -> str:
    title = f"{row['prompt']}, seed {row['seed']}, {row['condition']}"
    if row["thumbnail"]:
        source = f"data:image/webp;base64,{base64.b64encode(row['thumbnail']).decode()}"
        image = f'<img alt="{_text(title)}" src="{source}">'
    else:
        image = "<i>failed</i>"
    return f'<span title="{_text(title)}">{image}seed {row["seed"]}</span>'


def _runs(runs: Sequence[tuple[str, str]], stored: int) -> str:
    frames = [
        f'<details><summary>{_text(title)}</summary><iframe loading="lazy" title="{_text(title)}" '
        f'sandbox="allow-scripts allow-downloads" srcdoc="{html.escape(content)}"></iframe></details>'
        for title, content in runs
    ]
    more = f", the first {len(runs)} of {stored:,}" if stored > len(runs) else ""
    return f"<h2>Stored runs{more}</h2>{''.join(frames)}" if frames else ""


def _errors(table: Any) -> str:
    """Failed rows, those with the same error together."""
    rows = table.select(["row", "prompt", "seed", "condition", "error"]).to_pylist()
    if not rows:
        return ""
    counts = Counter(row["error"] for row in rows)
    firsts = {row["error"]: row for row in reversed(rows)}
    lines = [
        (count, error, f"row {firsts[error]['row']}: {firsts[error]['prompt']}, seed {firsts[error]['seed']}, "
         f"{firsts[error]['condition']}")
        for error, count in counts.most_common(_MAX_ERRORS)
    ]  # fmt: skip
    more = f", the {_MAX_ERRORS} most frequent errors of {len(counts)}" if len(counts) > _MAX_ERRORS else ""
    return f"<h2>Failed rows{more}</h2>{_table(('rows', 'error', 'the first of them'), lines)}"
