"""A trace file may come from anybody. Its texts and numbers stay data in everything that is exported."""

from __future__ import annotations

import ast
import csv
import functools
import io
import json
import re
import tempfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import diffvis_widget as dv
from diffvis_widget.export import html
from diffvis_widget.export.literals import call, comment, literal
from diffvis_widget.export.offers import FILE_KINDS, file_stem, source_code_message
from diffvis_widget.export.source_code import trace_source
from diffvis_widget.traces import ConceptScores, Trace, TraceFileError
from diffvis_widget.traces.file.header import read_header
from diffvis_widget.traces.file.reader import TraceContent, read_content
from diffvis_widget.traces.file.safetensors_reader import strict_json
from diffvis_widget.traces.printable import printable
from tests.traces.build import make_trace
from tests.traces.file.test_file import parts

CALLS = {
    "dv.load",
    "dv.trace",
    "dv.open_trace",
    "dv.export.png",
    "dv.explain.overlay",
    "dv.intervene.weight",
    "dv.intervene.drop",
    "dv.intervene.switch",
}
ENDINGS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "'", '"', "'''", '"""', "\\", "\\\n"]
HARM = "__import__('os').abort()"
hostile_text = st.one_of(
    st.text(max_size=30),
    st.builds(
        lambda before, end, after: f"{before}{end}{HARM}{after}",
        st.text(max_size=5),
        st.sampled_from([*ENDINGS, "')\n", '")\n', "])\n", "{", "}", "\u202e", "\0", "\ud800"]),
        st.sampled_from(["", "  #", "\n", "#'", "\u2066"]),
    ),
)
number = st.one_of(
    st.integers(-(2**70), 2**70), st.sampled_from([10**400, -0.0, 1e308, -1, 0, 1, True]), st.floats(allow_nan=False)
)
hostile = st.recursive(
    st.none() | hostile_text | hostile_text | number,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hostile_text, inner, max_size=2),
    max_leaves=4,
)
META = ["seed", "guidance_scale", "schedule", "schedule_strength", "pipeline", "fingerprint", "planned_steps",
        "interventions", "scheduler", "arguments", "arguments_not_recorded", "generator",
        "num_inference_steps"]  # fmt: skip
INTERVENTIONS: dict[str, dict[str, Any]] = {
    "weight": {"word": "red", "factor": 2.0, "steps": [0, None]},
    "drop": {"word": "red", "steps": [1, 2]},
    "switch": {"prompt": "blue", "step": 1},
}


def fields_of(header: dict[str, Any]) -> list[tuple[str | int, ...]]:
    """The paths of all values in the header of a file, and of those that other runs have in its metadata."""
    paths: list[tuple[str | int, ...]] = [("meta", name) for name in META]
    paths += [("words", index, name) for index in (1, 2) for name in ("text", "token_texts", "encoder", "kind")]
    paths += [("layers", 0, name) for name in header["layers"][0]]
    paths += [("steps", 0, name) for name in header["steps"][0]]
    paths += [("scores", name) for name in header["scores"]]
    paths += [("saliency", 0, name) for name in header["saliency"][0]]
    paths += [("notes", 0, name) for name in header["notes"][0]]
    paths += [("meta", "arguments", "clip_skip")]
    paths += [("meta", "interventions", kind, name) for kind, entry in INTERVENTIONS.items() for name in entry]
    return [*paths, *((name,) for name in header)]


def with_value(header: dict[str, Any], path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    document = json.loads(json.dumps(header))
    if path[:2] == ("meta", "interventions") and len(path) == 4:
        kind, name = str(path[2]), str(path[3])
        document["meta"]["interventions"] = [{"kind": kind, **INTERVENTIONS[kind], name: value}]
        return document
    target = document
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return document


def check_code(code: str) -> None:
    """The code parses, and consists of the expected calls, whose arguments are constants."""
    assert all(character.isprintable() or character == "\n" for character in code)
    code.encode()
    tree = ast.parse(code)
    imported, *statements = tree.body
    assert ast.unparse(imported) == "import diffvis_widget as dv"
    for statement in statements:
        assert isinstance(statement, ast.Assign | ast.Expr)
        if isinstance(statement, ast.Assign):
            assert ast.unparse(statement.targets[0]) in ("pipe", "trace")
        check_call(statement.value)


def check_call(node: ast.expr) -> None:
    assert isinstance(node, ast.Call)
    assert ast.unparse(node.func) in CALLS
    for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
        if isinstance(argument, ast.Name):
            assert argument.id in ("pipe", "trace")
        elif isinstance(argument, ast.Call):
            check_call(argument)
        elif isinstance(argument, ast.List) and any(isinstance(item, ast.Call) for item in argument.elts):
            for item in argument.elts:
                check_call(item)
        else:
            ast.literal_eval(argument)


@functools.cache
def good_file() -> tuple[dict[str, Any], TraceContent]:
    """A file with results: its header as JSON, and its content."""
    trace = make_trace()
    floats = np.random.default_rng(1).random((3, 2)).astype(np.float32)
    trace.scores = ConceptScores(["circle"], floats[:, :1], floats[:, :1], floats, np.ones(1, "f4"), "a meter")
    trace.saliency.append(dv.Saliency("df_cam", 0, np.ones((8, 12), "f4")))
    trace.note("Look", step=1, words=["circle"])
    trace.meta |= {"guidance_scale": 5.0, "schedule": "early", "schedule_strength": 30, "pipeline": "A", "seed": 7}
    trace.meta["arguments"] = {"clip_skip": 1}
    with tempfile.TemporaryDirectory() as folder:
        path = trace.save(Path(folder, "run"))
        return parts(path)[0], read_content(path)


def traces_with(value: object) -> list[Trace]:
    """One trace per field of the file that takes the value; for the others the file is refused."""
    header, good = good_file()
    traces: list[Trace] = []
    for path in fields_of(header):
        try:
            changed = read_header(strict_json(json.dumps(with_value(header, path, value))))
            traces.append(Trace.from_content(replace(good, header=changed)))
        except TraceFileError:
            continue
    return traces


# Each value is put into each of more than 50 fields: over 10,000 cases in all.
@settings(max_examples=200, deadline=None)
@given(value=hostile)
def test_no_field_of_a_file_becomes_code(value: object) -> None:
    assert len(fields_of(good_file()[0])) >= 50
    for trace in traces_with(value):
        view = {"step": 0, "words": [1] if trace.words else [], "view": "prediction", "opacity": 0.5}
        check_code(dv.export.code(trace, step=0, file=f"{trace.prompt}.safetensors", out=trace.prompt))
        check_code(str(source_code_message(1, "run", trace, view).content["python"]))
        try:
            check_code(trace_source(trace))
        except ValueError:  # the run cannot be repeated
            continue
        for word in trace.words[:2]:
            check_code(dv.export.code(trace, words=[word.text]))


@settings(max_examples=300, deadline=None)
@given(value=hostile)
def test_a_literal_gives_its_value_back_and_nothing_else(value: object) -> None:
    try:
        written = literal("value", value)
    except ValueError:  # a mapping, or a number without a literal
        return
    assert ast.literal_eval(written) == value
    assert written.isprintable()
    check_code(f"import diffvis_widget as dv\n{call('dv.load', value, name=value)}  # {comment(value)}\n")


def test_a_number_that_is_none_has_no_literal() -> None:
    for value in (float("nan"), float("inf"), -float("inf"), 10**400, object(), {1: 2}, b"x", print):
        with pytest.raises(ValueError, match="cannot be written as Python"):
            literal("seed", value)


HTML = [
    "</title><script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "--></noscript><img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "&lt;script&gt;&#x3c;b>{{}}{policy}{0}",
    "]]>\u2028\ud800\0</style>",
    "javascript:alert(1)",
]


class Structure(HTMLParser):
    """The elements of a document with the names of their attributes, in order."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.frames: list[str] = []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.frames += [value or "" for name, value in attrs if name == "srcdoc"]


def hostile_trace(text: str) -> Trace:
    trace = make_trace(negative=True)
    trace.prompt, trace.negative_prompt = text, text
    trace.words[1] = replace(trace.words[1], text=text, token_texts=(text,))
    trace.meta |= {"pipeline": text, "fingerprint": text, "schedule": text, "scheduler": text, text: text}
    floats = np.random.default_rng(1).random((3, 2)).astype(np.float32)
    trace.scores = ConceptScores([text], floats[:, :1], floats[:, :1], floats, np.ones(1, "f4"), text)
    if text.strip():
        trace.note(text, step=1)
    return trace


@pytest.fixture(scope="module")
def harmless_page() -> str:
    return html.page([hostile_trace("harmless")])


@pytest.mark.parametrize("text", HTML, ids=range(len(HTML)))
def test_no_text_of_a_file_becomes_an_element_of_a_page(text: str, harmless_page: str) -> None:
    page, harmless = Structure(html.page([hostile_trace(text)])), Structure(harmless_page)
    assert page.elements == harmless.elements


@pytest.mark.parametrize("text", HTML[:3], ids=range(3))
def test_no_text_of_a_file_becomes_an_element_of_a_cell(text: str, harmless_page: str) -> None:
    widget = dv.DiffVis(hostile_trace(text))
    bundle = widget.static()._repr_mimebundle_()
    widget.close()
    assert set(bundle) == {"text/plain", "image/png", "text/html"}
    output, harmless = Structure(bundle["text/html"]), Structure(harmless_page)
    assert [element for element in output.elements if element[0] == "iframe"]
    assert len(output.frames) == 1
    assert Structure(output.frames[0]).elements == harmless.elements
    assert bundle["text/plain"].isprintable()


@pytest.mark.parametrize("text", ["\x1b[2J\x1b]0;title\x07", "a\x9b31m", "\u202egnp.exe", "a\r\nb", "\x08\x08\x7f"])
def test_no_text_of_a_file_reaches_a_terminal_unescaped(text: str, tmp_path: Path) -> None:
    trace = hostile_trace(text)
    widget = dv.DiffVis(trace)
    bundle = widget._repr_mimebundle_()[0]
    widget.close()
    assert bundle["text/plain"].isprintable()
    assert repr(dv.open_trace(trace.save(tmp_path / "run"))).isprintable()
    assert printable(text).isprintable()


def test_what_is_no_control_character_is_printed_as_it_is() -> None:
    for text in ("a red circle", "שלום عربي 猫", "👩\u200d🎨 é", "می\u200cخواهم", "100 % \\ '\""):
        assert printable(text) == text


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "a;=1", "a\t=1", "a\n=1", 'a";=1', "＝1",
            "＠A1", "'=1", "=cmd|' /C calc'!A0", 'a"\r\n=1,"', "\t", "\r\n"]  # fmt: skip


@pytest.mark.parametrize("concept", FORMULAS, ids=range(len(FORMULAS)))
def test_no_concept_becomes_a_formula(concept: str) -> None:
    """Neither where cells are separated by commas, nor where a spreadsheet separates by semicolons or tabs."""
    data = dv.export.csv(hostile_trace(concept)).decode()
    rows = list(csv.reader(io.StringIO(data, newline="")))
    assert len(rows) == 4
    assert {len(row) for row in rows} == {7}
    for separator in (",", ";", "\t"):
        for row in csv.reader(io.StringIO(data, newline=""), delimiter=separator):
            cells = row if separator == "," else [part for cell in row for part in re.split(r'[\r\n"]', cell)]
            assert not [cell for cell in cells if re.match(r"\s*[=+\-@＝＋－＠]", cell) and not is_number(cell)]
            assert not [cell for cell in row if cell[:1] in ("\t", "\r", "\n") and separator == ","]


def is_number(cell: str) -> bool:
    return re.fullmatch(r"-?[\d.e+\-]+|-?(nan|inf)", cell.split(",")[0]) is not None


@pytest.mark.parametrize("concept", ["red - blue", "circle", "a+b", "e=mc2", "me@example.org", "it's", "cats, -dogs"])
def test_other_concepts_stay_as_they_are(concept: str) -> None:
    rows = list(csv.reader(io.StringIO(dv.export.csv(hostile_trace(concept)).decode(), newline="")))
    assert rows[0][5] == f"{concept} cosine"


@settings(max_examples=200, deadline=None)
@given(
    prompt=hostile_text
    | st.sampled_from(["../../etc/passwd", "..\\..\\x", "C:\\x", "CON", "nul", ".bashrc", "-rf", "~"])
)
def test_a_suggested_file_name_is_a_name(prompt: str) -> None:
    for kind in FILE_KINDS.values():
        name = file_stem(prompt) + kind.suffix.format(step=1000)
        assert name.isprintable()
        assert not set(name) & set("/\\:*?\"<>|\0~$`&;'( ")
        assert name[0].isalnum()
        assert ".." not in name
        assert len(name.encode()) <= 255
        assert name.encode().decode() == name
        assert re.fullmatch(r"[a-z/-]+[a-z0-9]+", kind.mime)
