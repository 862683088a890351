"""The built front end as text. It is built from js/ when the package is installed, and is part of every wheel."""

from __future__ import annotations

import os
from pathlib import Path

STATIC = Path(__file__).parent / "widget" / "static"

_MISSING = """
export default {
  render({ el }) {
    el.textContent =
      "The front end of diffvis_widget is not built. In a checkout, run `make setup` (or `pip install .`), " +
      "then restart the kernel.";
  },
};
"""


def script() -> str | Path:
    """The JavaScript module of the widget.

    Returns:
        Its text, or its path under ANYWIDGET_HMR=1; a module that shows an error message where the front end is not
        built.
    """
    path = STATIC / "widget.js"
    return _asset(path) if path.is_file() else _MISSING


def style() -> str | Path:
    """The style sheet of the widget.

    Returns:
        Its text, or its path under ANYWIDGET_HMR=1; empty where the front end is not built.
    """
    path = STATIC / "widget.css"
    return _asset(path) if path.is_file() else ""


def more() -> tuple[bytes, str]:
    """The script and the style sheet of the drawers, which a page requests when the first one opens.

    Returns:
        JavaScript and CSS.

    Raises:
        FileNotFoundError: The front end is not built.
    """
    try:
        return (STATIC / "more.js").read_bytes(), (STATIC / "more.css").read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the front end is not built completely: {error.filename} is missing") from None


def study() -> tuple[str | Path, str | Path]:
    """The script and the style sheet of a study in the notebook.

    Returns:
        Their texts, or their paths under ANYWIDGET_HMR=1; a module that shows an error message where the front end is
        not built.
    """
    paths = STATIC / "study.js", STATIC / "study.css"
    return (_asset(paths[0]), _asset(paths[1])) if all(path.is_file() for path in paths) else (_MISSING, "")


def standalone() -> tuple[str, str]:
    """The script and the style sheet of the offline page, which has all views.

    Returns:
        JavaScript and CSS.

    Raises:
        FileNotFoundError: The front end is not built.
    """
    style = "".join((STATIC / name).read_text(encoding="utf-8") for name in ("widget.css", "more.css"))
    return (STATIC / "standalone.js").read_text(encoding="utf-8"), style


def engine() -> tuple[str, bytes]:
    """The script of the worker in which a page paints, and onnxruntime's program for it.

    Returns:
        JavaScript, and WebAssembly as a gzip file.

    Raises:
        FileNotFoundError: The front end is not built.
    """
    try:
        return (STATIC / "engine.js").read_text(encoding="utf-8"), (STATIC / "engine.wasm.gz").read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the front end is not built completely: {error.filename} is missing") from None


def _asset(path: Path) -> str | Path:
    # anywidget watches a Path for changes and keeps every widget made from it alive: only for development of js/.
    return path if os.environ.get("ANYWIDGET_HMR") == "1" else path.read_text(encoding="utf-8")
