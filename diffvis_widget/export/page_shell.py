"""The HTML around the data of a page, with its Content-Security-Policy."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diffvis_widget import front_end

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main></main>
<noscript>This page needs JavaScript to show its run.</noscript>
<script type="application/json" id="dv-traits">{traits}</script>
<script type="application/octet-stream" id="dv-run">{run}</script>
{blocks}<script>{script}</script>
</body>
</html>
"""
_STYLE = "body{margin:16px;background:light-dark(#fff,#141518);color:light-dark(#1d1f23,#ecedef)}.dv{margin:0 auto}"


@dataclass(frozen=True)
class Shell:
    """What a page consists of.

    Attributes:
        title: Its title.
        traits: The traits of the widget at first.
        run: The packed runs, base64.
        blocks: Further data blocks by id, (media type, text); the page paints where there are any.
    """

    title: str
    traits: Mapping[str, Any]
    run: str
    blocks: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])


def fill_page(shell: Shell) -> str:
    """Put the parts of a page together.

    Args:
        shell: The parts.

    Returns:
        The HTML.

    Raises:
        FileNotFoundError: The front end is not built.
        ValueError: A data block contains the end of a script element.
    """
    script, style = front_end.standalone()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    wasm, worker = (" 'wasm-unsafe-eval'", "worker-src blob:; ") if shell.blocks else ("", "")
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'{wasm}; style-src 'unsafe-inline'; img-src data: blob:; "
        f"{worker}base-uri 'none'; form-action 'none'"
    )
    for name, (_, text) in shell.blocks.items():
        if "</script" in text.lower() or "<!--" in text:
            raise ValueError(f"the data block {name} contains the end of a script element")
    blocks = "".join(
        f'<script type="{kind}" id="{name}">{text}</script>\n' for name, (kind, text) in shell.blocks.items()
    )
    return _PAGE.format(
        policy=policy,
        title=html.escape(shell.title.encode("utf-8", "replace").decode() or "A recorded run"),
        style=_STYLE + style,
        traits=json.dumps(dict(shell.traits)).replace("<", "\\u003c"),
        run=shell.run,
        blocks=blocks,
        script=script,
    )
