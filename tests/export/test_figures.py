"""Exports: the pixels are those of the trace, the tables its numbers, and the code reproduces the same image."""

from __future__ import annotations

import ast
import contextlib
import csv as reader
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import diffvis_widget as dv
from diffvis_widget.export.video import find_ffmpeg
from diffvis_widget.traces import ConceptScores, Saliency, Trace
from diffvis_widget.traces.colormap import apply_colormap, colour_table, word_colours
from tests.traces.build import fake_decoder, make_trace

PAD = 12
BARE: dict[str, Any] = {"size": 480, "opacity": 1, "contours": False, "caption": False}


@pytest.fixture
def trace() -> Trace:
    trace = make_trace()
    floats = np.random.default_rng(1).random((3, 2)).astype(np.float32)
    trace.scores = ConceptScores(["circle", "=1+1"], floats, floats.copy(), floats, np.array([1, np.nan], "f4"), "m")
    return trace


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def enlarged(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.NEAREST))


def laid_over(image: np.ndarray, values: np.ndarray, low: float, high: float) -> np.ndarray:
    """The image under a map that is transparent at its low end and opaque at its high end."""
    level = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    cover = level[..., None] ** 0.6
    # the blend mode "saturation" of a colour without saturation: W3C, Compositing and Blending, Lum
    grey = (image * (0.3, 0.59, 0.11)).sum(axis=-1, keepdims=True)
    return (image * (1 - cover) + grey * cover) * (1 - cover) + apply_colormap(values, low, high) * cover


def a_map(step: int, value: float, method: str = "df_cam") -> Saliency:
    return Saliency(method, step, np.linspace(0, value, 96, dtype=np.float32).reshape(8, 12))


def test_a_figure_holds_the_image(trace: Trace, tmp_path: Path) -> None:
    data = dv.export.png(trace, tmp_path / "view.png", step=1, size=480)
    assert (tmp_path / "view.png").read_bytes() == data
    shown = pixels(data)[PAD : PAD + 320, PAD : PAD + 480]  # 12 x 8, forty times as large: pixels as squares
    np.testing.assert_array_equal(shown, enlarged(trace.frames("prediction")[1], (480, 320)))
    noisy = pixels(dv.export.png(trace, step=-2, size=480, view="latents"))[PAD : PAD + 320, PAD : PAD + 480]
    np.testing.assert_array_equal(noisy, enlarged(trace.frames("latents")[1], (480, 320)))


def test_one_word_lies_over_it_in_the_colours_of_its_bar(trace: Trace) -> None:
    whole = pixels(dv.export.png(trace, step=1, words="circle", **BARE))
    values = trace.heat_map("circle", step=1)
    smooth = np.asarray(Image.fromarray(values).resize((480, 320), Image.Resampling.BICUBIC))
    ground = enlarged(trace.frames("prediction")[1], (480, 320))
    expected = laid_over(ground, smooth, float(values.min()), float(values.max()))
    np.testing.assert_allclose(whole[PAD : PAD + 320, PAD : PAD + 480], expected, atol=0.51)
    bar = whole[PAD * 2 + 320 + 8].astype(int)  # a row through the colour bar
    middle = 255 + (colour_table("viridis")[128].astype(int) - 255) * (128 / 255) ** 0.6
    for colour in (colour_table("viridis")[255], middle):
        assert (np.abs(bar - colour).max(axis=-1) < 4).any()
    half = pixels(dv.export.png(trace, step=1, words=["circle"], opacity=0, contours=False, size=480))
    np.testing.assert_array_equal(
        half[PAD : PAD + 320, PAD : PAD + 480], enlarged(trace.frames("prediction")[1], (480, 320))
    )


def test_several_words_have_colours_of_their_own(trace: Trace) -> None:
    trace.records[0].maps[0][:] = 0
    trace.records[0].maps[2][:] = 0
    for layer, (rows, columns) in ((0, (4, 6)), (2, (8, 12))):
        trace.records[0].maps[layer][0, 2, : rows // 2] = 0.5  # circle looks at the top
        trace.records[0].maps[layer][0, 5, rows // 2 :, : columns // 2] = 0.5  # square below on the left
    shown = pixels(dv.export.png(trace, step=0, words=["circle", "square"], **BARE))
    image = shown[PAD : PAD + 320, PAD : PAD + 480]
    amber, sky = word_colours(["circle", "square"])
    np.testing.assert_allclose(image[20, 240], amber, atol=8)
    np.testing.assert_allclose(image[300, 60], sky, atol=8)
    ground = enlarged(trace.frames("prediction")[0], (480, 320))
    np.testing.assert_allclose(image[300, 440].astype(int), ground[300, 440].astype(int), atol=3)


def test_where_words_overlap_the_larger_map_has_its_colour(trace: Trace) -> None:
    trace.records[0].maps[0][:] = 0
    trace.records[0].maps[2][:] = 0
    for layer, columns in ((0, 6), (2, 12)):
        # circle on the left, square everywhere, half as high
        trace.records[0].maps[layer][0, 2, :, : columns // 2] = 0.5
        trace.records[0].maps[layer][0, 2, :, columns // 2 :] = 0.1
        trace.records[0].maps[layer][0, 5] = 0.25
        trace.records[0].maps[layer][0, 5, 0, 0] = 0.5
        trace.records[0].maps[layer][0, 5, -1, -1] = 0
    shown = pixels(dv.export.png(trace, step=0, words=["circle", "square"], **BARE))
    image = shown[PAD : PAD + 320, PAD : PAD + 480]
    amber, sky = word_colours(["circle", "square"])
    np.testing.assert_allclose(image[160, 60], amber, atol=8)
    ground = enlarged(trace.frames("prediction")[0], (480, 320))[160, 420]
    cover = 0.5**0.6  # of a map at half of its range
    grey = (ground * (0.3, 0.59, 0.11)).sum()
    expected = (ground * (1 - cover) + grey * cover) * (1 - cover) + np.array(sky) * cover
    np.testing.assert_allclose(image[160, 420], expected, atol=8)


def test_values_are_shown_as_such(trace: Trace) -> None:
    assert trace.guidance is not None
    guidance = trace.guidance[2]
    shown = pixels(dv.export.png(trace, step=2, view="guidance", size=480))[PAD : PAD + 320, PAD : PAD + 480]
    expected = apply_colormap(guidance, float(guidance.min()), float(guidance.max()), "magma")
    np.testing.assert_array_equal(shown, enlarged(expected, (480, 320)))
    frames = trace.frames("prediction").astype(np.float32)
    moved = np.abs(frames[2] - frames[1]).mean(axis=-1)
    change = pixels(dv.export.png(trace, step=2, view="change", size=480))[PAD : PAD + 320, PAD : PAD + 480]
    np.testing.assert_array_equal(change, enlarged(apply_colormap(moved, 0, float(moved.max()), "magma"), (480, 320)))
    saliency = Saliency("df_rise", 1, np.linspace(0, 1, 96, dtype=np.float32).reshape(8, 12))
    over = pixels(dv.export.png(trace, step=1, saliency=saliency, opacity=1, contours=False, size=480))
    ground = enlarged(trace.frames("prediction")[1], (480, 320))
    np.testing.assert_allclose(over[PAD, PAD].astype(int), ground[0, 0].astype(int), atol=3)  # 0: transparent
    np.testing.assert_allclose(over[PAD + 319, PAD + 479], colour_table("viridis")[255], atol=3)


def test_a_caption_is_wrapped_and_cut(trace: Trace) -> None:
    plain = pixels(dv.export.png(trace, caption=False))
    captioned = pixels(dv.export.png(trace))
    long = pixels(dv.export.png(trace, caption="word " * 1000))
    assert plain.shape[0] < captioned.shape[0] < long.shape[0] < plain.shape[0] + 150
    assert plain.shape[1] == long.shape[1]


def test_a_filmstrip_has_every_step(trace: Trace) -> None:
    strip = pixels(dv.export.filmstrip(trace, size=96))
    for index in range(3):
        left = 4 + index * 100
        np.testing.assert_array_equal(
            strip[4:68, left : left + 96], enlarged(trace.frames("prediction")[index], (96, 64))
        )
    wide = pixels(dv.export.filmstrip(trace, steps=[0, 2, 1], columns=1, size=96, words="red"))
    assert wide.shape[0] > 3 * 64
    assert wide.shape[1] == 104


@pytest.mark.parametrize(("make", "kind"), [(dv.export.webp, "WEBP"), (dv.export.gif, "GIF")])
def test_an_animation_has_every_step_in_its_time(trace: Trace, make: Any, kind: str) -> None:
    with Image.open(io.BytesIO(make(trace, fps=4, hold=2, size=96))) as moving:
        assert (moving.format, getattr(moving, "n_frames", 1), moving.size) == (kind, 3, (96, 64))
        durations: list[int] = []
        for index in range(3):
            moving.seek(index)
            moving.load()
            durations.append(moving.info["duration"])
            shown = np.asarray(moving.convert("RGB"), dtype=float)
            expected = enlarged(trace.frames("prediction")[index], (96, 64))
            assert np.abs(shown - expected).mean() < 8
    assert durations[-1] == 2250
    assert durations[1] == 250


def decoded(film: Path, size: tuple[int, int]) -> np.ndarray:
    """uint8 (frames, H, W, 3) of a film, by ffmpeg's own decoder."""
    program = find_ffmpeg()
    assert program is not None
    command = [program, "-loglevel", "error", "-i", str(film), "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, dtype=np.uint8).reshape(-1, size[1], size[0], 3)


def test_a_film_has_every_step_in_its_colours(trace: Trace, tmp_path: Path) -> None:
    data = dv.export.mp4(trace, tmp_path / "run.mp4", fps=4, hold=2, size=96, words=["circle"])
    assert (tmp_path / "run.mp4").read_bytes() == data
    frames = decoded(tmp_path / "run.mp4", (96, 64))
    assert len(frames) == 3 + 8
    with Image.open(io.BytesIO(dv.export.webp(trace, size=96, words=["circle"]))) as moving:
        for index in range(3):
            moving.seek(index)
            expected = np.asarray(moving.convert("RGB"), dtype=float)
            assert np.abs(frames[index] - expected).mean() < 6, "another matrix of colours would be further off"
    np.testing.assert_allclose(frames[10].astype(int), frames[2].astype(int), atol=12)
    program = find_ffmpeg()
    assert program is not None
    probe = subprocess.run(
        [program, "-i", str(tmp_path / "run.mp4")], capture_output=True, text=True, check=False
    ).stderr
    assert "h264" in probe
    assert "yuv420p" in probe


def test_a_film_of_odd_size_gets_a_row_more(trace: Trace, tmp_path: Path) -> None:
    dv.export.mp4(trace, tmp_path / "run.mp4", size=99, hold=0)  # 99 x 66
    frames = decoded(tmp_path / "run.mp4", (100, 66))
    np.testing.assert_allclose(frames[:, :, 99].astype(int), frames[:, :, 98].astype(int), atol=12)


def test_without_ffmpeg_it_says_what_to_install(trace: Trace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\necho no such codec >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="could not encode the video: no such codec"):
        dv.export.mp4(trace, tmp_path / "run.mp4")
    broken.unlink()
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(RuntimeError, match=r"diffvis-widget\[film\]"):
        dv.export.mp4(trace, tmp_path / "run.mp4")
    assert list(tmp_path.iterdir()) == []


def test_an_animation_refuses_what_it_does_not_know(trace: Trace) -> None:
    for make in (dv.export.webp, dv.export.gif, dv.export.mp4):
        with pytest.raises(TypeError, match="loops"):
            make(trace, loops=2)  # pyright: ignore[reportCallIssue]
        with pytest.raises(ValueError, match=r"fps must be a number from 0\.1 to 60"):
            make(trace, fps=0)


def test_a_figure_decodes_no_other_image() -> None:
    decoded_steps: list[int] = []

    def decoder(latents: np.ndarray) -> np.ndarray:
        decoded_steps.append(len(latents))
        return fake_decoder(latents)

    trace = make_trace(decoder=decoder)
    frame = trace.frame("prediction", 1)
    dv.export.png(trace, step=1)
    dv.export.png(trace, step=-1, view="latents")
    assert decoded_steps == [1, 1]
    np.testing.assert_array_equal(trace.frames("prediction")[1], frame)
    np.testing.assert_array_equal(trace.frame("latents", -1), trace.frames("latents")[2])
    with pytest.raises(IndexError):
        trace.frame("prediction", 3)


def test_the_table_has_the_scores(trace: Trace, tmp_path: Path) -> None:
    dv.export.csv(trace, tmp_path / "scores.csv")
    with open(tmp_path / "scores.csv", newline="", encoding="utf-8") as file:
        head, *rows = list(reader.reader(file))
    assert head[:6] == ["step", "timestep", "sigma", "null_5", "null_95", "circle cosine"]
    assert head[7] == "'=1+1 cosine", "a spreadsheet must not take a concept for a formula"
    assert trace.scores is not None
    assert [row[0] for row in rows] == ["1", "2", "3"]
    np.testing.assert_allclose([float(row[5]) for row in rows], trace.scores.cosine[:, 0])
    np.testing.assert_allclose([float(row[8]) for row in rows], trace.scores.share[:, 1])
    trace.scores = None
    with pytest.raises(ValueError, match=r"trace\.scores = dv\.concept_scores"):
        dv.export.csv(trace)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"step": 3}, IndexError, "are 0 to 2"),
        ({"words": "dog"}, KeyError, "'dog' is not in the prompt"),
        ({"view": "noise"}, ValueError, "view must be one of"),
        ({"opacity": 2}, ValueError, "opacity must be a number from 0 to 1"),
        ({"size": 9}, ValueError, "size must be an integer from 32 to 4096"),
        ({"view": "change"}, ValueError, "needs a step"),
        ({"region": (0.5, 0, 0.2, 1)}, ValueError, "region must be"),
        ({"region": (0, 0, float("nan"), 1)}, ValueError, "region must be"),
        ({"saliency": "df_cam", "words": "red"}, ValueError, "two overlays"),
        ({"saliency": "df_cam", "step": 1}, ValueError, "no map of df_cam at the step with index 1$"),
        (
            {"saliency": "df_rise", "step": 1},
            ValueError,
            "the step with index 1; it has df_rise at index 2",
        ),
        ({"saliency": "df_rise"}, ValueError, "the final image: give a step"),
        ({"path": "nowhere/view.png"}, FileNotFoundError, "does not exist"),
    ],
)
def test_what_cannot_be_says_why(trace: Trace, arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    if arguments.get("saliency") == "df_rise":
        trace.saliency = [a_map(2, 1, "df_rise")]
    with pytest.raises(error, match=words):
        dv.export.png(trace, **arguments)


@pytest.mark.parametrize(
    "view_options",
    [
        {"step": 1, "words": "circle"},
        {"words": ["circle", 4], "opacity": 0.4},
        {"step": 2, "words": ["red"], "layer": "mid.attn2"},
        {"step": 0, "view": "guidance", "size": 300},
        {"step": 1, "words": "circle", "contours": False, "shared_scale": True, "region": (0.1, 0.2, 0.5, 0.75)},
        {"step": 2, "saliency": "df_cam", "contours": False},
    ],
)
def test_the_code_for_a_file_makes_the_same_image(
    trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view_options: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    trace.saliency = [a_map(2, 1)]
    trace.save("run's.safetensors")
    exec(compile(dv.export.code(trace, file="run's.safetensors", **view_options), "copied", "exec"), {})
    assert (tmp_path / "view.png").read_bytes() == dv.export.png(trace, **view_options)


def test_the_code_for_a_run_makes_the_same_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = dv.trace(
        dv.load(), 'a "red" circle', seed=3, num_inference_steps=4, guidance_scale=5.0, negative_prompt="blue",
        schedule="early", schedule_strength=30,
    )  # fmt: skip
    view_options: dict[str, Any] = {
        "step": 2,
        "words": ["circle"],
        "contours": False,
        "shared_scale": True,
        "region": [0, 0, 1, 0.5],
    }
    dv.explain.overlay(run, 1, "df_cam")
    for options in (view_options, {"step": 1, "saliency": "df_cam", "contours": False}):
        code = dv.export.code(run, **options)
        assert "file" not in code
        exec(compile(code, "copied", "exec"), {})
        assert (tmp_path / "view.png").read_bytes() == dv.export.png(run, **options)
    with pytest.raises(ValueError, match="by its name, as in saliency='df_cam'"):
        dv.export.code(run, step=1, saliency=run.saliency[0])


def test_the_code_for_a_changed_run_makes_the_same_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    changes = [
        dv.intervene.weight("circle", 1.5),
        dv.intervene.drop("a", steps=(1, 3)),
        dv.intervene.switch("a blue's circle", 2),
    ]
    run = dv.trace(dv.load(), "a red circle", seed=3, num_inference_steps=3, keep="heads", interventions=changes)
    view_options: dict[str, Any] = {"step": 2, "words": ["circle"], "layer": 0, "head": 1}
    exec(compile(dv.export.code(run, **view_options), "copied", "exec"), {})
    assert (tmp_path / "view.png").read_bytes() == dv.export.png(run, **view_options)


def test_the_code_says_what_it_cannot_know(trace: Trace) -> None:
    assert "pipe = dv.load(...)  # the " in dv.export.code(trace)
    trace.meta["interventions"] = [{"kind": "freeze", "prompt": "", "seed": 1, "steps": [0, 3]}]
    with pytest.raises(ValueError, match="used the attention of another one: give file="):
        dv.export.code(trace)
    trace.meta["interventions"] = []
    del trace.meta["seed"]
    with pytest.raises(ValueError, match="the seed of this run is not known"):
        dv.export.code(trace)


INJECTION = "x\n__import__('os').abort()  #"


@pytest.mark.parametrize(
    "changes",
    [
        {"pipeline": INJECTION, "fingerprint": "y\rraise SystemExit\u2028z"},
        {"schedule": INJECTION},
        {"schedule": ["early"]},
        {"guidance_scale": float("inf")},
        {"schedule_strength": "60"},
        {"interventions": [{"kind": "weight", "word": INJECTION, "factor": 2, "steps": [0, None]}]},
        {"interventions": [{"kind": "weight", "word": "red", "factor": [INJECTION], "steps": None}]},
        {"interventions": [{"kind": "drop", "word": "red", "steps": INJECTION}]},
        {"interventions": [{"kind": "switch", "prompt": INJECTION, "step": 1}]},
        {"interventions": [{"kind": "switch", "prompt": "red", "step": INJECTION}]},
    ],
)
def test_the_code_contains_literals_only(trace: Trace, changes: dict[str, Any]) -> None:
    """A trace file is data from anywhere: its values must not become code."""
    trace.meta.update(changes)
    code = ""
    with contextlib.suppress(ValueError):  # where a value has no literal
        code = dv.export.code(trace)
    if not code:
        return
    tree = ast.parse(code)
    (imported, pipe, run, figure) = tree.body
    assert ast.unparse(imported) == "import diffvis_widget as dv"
    assert ast.unparse(pipe) == "pipe = dv.load(...)"
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert set(calls) <= {
        "dv.load",
        "dv.trace",
        "dv.export.png",
        "dv.intervene.weight",
        "dv.intervene.drop",
        "dv.intervene.switch",
    }
    assert isinstance(run, ast.Assign)
    assert isinstance(figure, ast.Expr)


def test_exports_need_no_latents(trace: Trace, tmp_path: Path) -> None:
    compact = dv.open_trace(trace.save(tmp_path / "run", compact=True))
    assert pixels(dv.export.png(compact, step=1, words="circle")).shape[1] == 512 + 2 * PAD
    assert dv.export.csv(compact) == dv.export.csv(trace)
    assert dv.to_html(compact, tmp_path / "run.html").stat().st_size < 400_000
