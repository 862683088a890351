"""The graphs of the page that paints: they compute what torch computes, from the packaged weights and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diffvis_widget as dv
from diffvis_widget.scenes.page.weights import SOURCES, graph_index, page_graph, page_weights
from diffvis_widget.shipped import PAGE_GRAPHS

LIMIT = 500_000
TOLERANCE = {"decoder": 1.0, "image_meter": 1e-4, "text_meter": 1e-4, "text_encoder": 1e-4, "unet": 1e-4}


@pytest.fixture(scope="module")
def modules() -> dict[str, torch.nn.Module]:
    from diffvis_widget.scenes.page.modules import page_modules

    return page_modules()


def session_of(name: str, folder: Path) -> Any:
    """An onnxruntime session as the page makes one: the graph, and beside it the widened weights."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `graphs` installs onnxruntime")
    (folder / f"{name}.onnx").write_bytes(page_graph(name))
    np.frombuffer(page_weights(name), "<f2").astype("<f4").tofile(folder / name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("rows", [1, 2])
def test_a_graph_computes_what_the_network_computes(
    modules: dict[str, torch.nn.Module], tmp_path: Path, name: str, rows: int
) -> None:
    from diffvis_widget.scenes.page.modules import example_inputs

    inputs = {key: value[:rows] for key, value in example_inputs()[name].items()}
    with torch.no_grad():
        outputs = modules[name](*inputs.values())
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    results = session_of(name, tmp_path).run(None, {key: value.numpy() for key, value in inputs.items()})
    assert len(results) == len(outputs)
    for result, output in zip(results, outputs, strict=True):
        assert result.shape == tuple(output.shape)
        difference = np.abs(result.astype(np.float64) - output.numpy().astype(np.float64))
        assert difference.max() <= TOLERANCE[name]
        assert difference.mean() <= 1e-3


def test_the_denoiser_of_the_page_is_the_unet_with_its_interventions(modules: dict[str, torch.nn.Module]) -> None:
    from diffvis_widget.scenes.page.modules import example_inputs

    inputs = example_inputs()["unet"]
    plain = inputs | {"mask": torch.zeros(2, 32), "factors": torch.ones(2, 32)}
    unet = dv.load().unet
    with torch.no_grad():
        expected = unet(inputs["latents"], inputs["timestep"], inputs["text"], return_dict=False)[0]
        prediction, self_attention, *maps = modules["unet"](*plain.values())
        _, _, *changed = modules["unet"](*inputs.values())
    assert torch.allclose(prediction, expected, atol=1e-4)
    layers = len(maps) // 2  # the words outside the prompt follow
    assert all(torch.allclose(layer.sum(-1), torch.ones(1), atol=1e-5) for layer in [self_attention, *maps[:layers]])
    assert all(bool((layer[0, :, :, 3] == 0).all()) for layer in changed[:layers])  # the token that is left out


def test_the_layer_that_refines_maps_is_that_of_the_tracer(modules: dict[str, torch.nn.Module]) -> None:
    from diffvis_widget.scenes.page.modules import Denoiser

    pipe: Any = dv.load()
    denoiser = modules["unet"]
    assert isinstance(denoiser, Denoiser)
    with dv.Tracer(pipe) as tracer:
        pipe("a red circle above a blue square", num_inference_steps=1, guidance_scale=1.0)
    trace = tracer.trace
    assert trace is not None
    _, attention, *layers = first_step(denoiser, pipe, trace, ["sky"], {0: [2]})
    layers = layers[: len(trace.layers)]
    default = [layer[0].mean(0) for layer, row in zip(layers, trace.layers, strict=True) if row.default]
    maps = torch.stack(default).mean(0)  # (positions, tokens)
    for index, word in enumerate(trace.words):
        values = attention[0] @ (attention[0] @ maps[:, list(word.tokens)].sum(-1))
        squares = (values / values.mean()) ** 2
        expected = trace.heat_maps(step=0, kind="refined")[index].ravel()
        refined = (squares / squares.mean()).numpy()
        assert np.abs(refined - expected).max() <= 1e-3 * max(1, refined.max())


def test_words_outside_the_prompt_have_the_shares_of_the_tracer(modules: dict[str, torch.nn.Module]) -> None:
    pipe: Any = dv.load()
    words = ["sky", "green star"]
    with dv.Tracer(pipe, keep="heads", concepts=words) as tracer:
        pipe("a red circle above a blue square", num_inference_steps=1, guidance_scale=1.0)
    trace = tracer.trace
    assert trace is not None
    places = [index for index, word in enumerate(trace.words) if word.kind == "concept"]
    # the start of the text, "a", then the tokens of the word
    tokens = {row: list(range(2, 2 + len(trace.words[place].tokens))) for row, place in enumerate(places)}
    outputs = first_step(modules["unet"], pipe, trace, words, tokens)
    shares = outputs[2 + len(trace.layers) :]
    assert len(shares) == len(trace.layers)
    for number, share in enumerate(shares):
        expected = trace.records[0].maps[number][:, places].astype(np.float32)  # (heads, words, h, w)
        heads, count, height, width = expected.shape
        values = share.reshape(count, heads, height, width).numpy().swapaxes(0, 1)
        assert np.abs(values - expected).max() <= 1e-3
        assert values.max() > 0.01
    alone = first_step(modules["unet"], pipe, trace, ["moon"], {0: [2]})
    assert all(torch.equal(a, b) for a, b in zip(outputs[: -len(shares)], alone[: -len(shares)], strict=True))


def first_step(
    denoiser: torch.nn.Module, pipe: Any, trace: dv.Trace, words: list[str], tokens: dict[int, list[int]]
) -> list[torch.Tensor]:
    """The outputs of the page's denoiser at the first step of a trace without guidance."""

    def encode(prompts: list[str]) -> torch.Tensor:
        ids = pipe.tokenizer(prompts, padding="max_length", return_tensors="pt").input_ids
        return pipe.text_encoder(ids)[0]

    members = torch.zeros(len(words), 32)
    for row, positions in tokens.items():
        members[row, positions] = 1
    with torch.no_grad():
        latents, time = torch.from_numpy(trace.latents[:1]), torch.tensor([float(trace.timesteps[0])])
        concepts = encode([f"a {word}" for word in words])
        text = encode([trace.prompt])
        return list(denoiser(latents, time, text, torch.zeros(1, 32), torch.ones(1, 32), concepts, members))


def test_graphs_are_small_and_hold_no_weights_and_no_paths() -> None:
    files = sorted(PAGE_GRAPHS.iterdir())
    assert [path.name for path in files] == sorted(["graphs.json", *(f"{name}.onnx" for name in SOURCES)])
    assert sum(path.stat().st_size for path in files) <= LIMIT
    for path in files:
        assert not [
            mark for mark in (b"/home/", b"/root", b"/tmp", b"site-packages", b".py:") if mark in path.read_bytes()
        ]


def test_the_weights_of_the_page_are_the_packaged_ones() -> None:
    from safetensors.numpy import load_file

    for name, source in SOURCES.items():
        tensors = load_file(dv.scenes.WEIGHTS / source)
        values, start = np.frombuffer(page_weights(name), "<f2"), 0
        for tensor, transposed in graph_index()[name]["tensors"]:
            expected = tensors[tensor].T if transposed else tensors[tensor]
            assert np.array_equal(values[start : start + expected.size], expected.ravel())
            start += expected.size
        assert start == values.size


def test_layers_and_noise_levels_are_those_of_the_pipeline() -> None:
    pipe = dv.load()
    scheduler: Any = pipe.scheduler
    layers = dv.trace(pipe, "a circle", num_inference_steps=1).layers
    index = graph_index()["unet"]
    listed = [{name: getattr(layer, name) for name in ("name", "kind", "heads", "default")} for layer in layers]
    grids = [{"grid": list(layer.grid)} for layer in layers]
    assert index["layers"] == [line | grid for line, grid in zip(listed, grids, strict=True)]
    scheduler.set_timesteps(timesteps=list(range(999, -1, -1)))
    # the last bits of the noise levels are the processor's
    np.testing.assert_allclose(index["sigmas"][::-1], scheduler.sigmas[:-1].numpy(), rtol=1e-5)


@pytest.mark.parametrize("name", SOURCES)
def test_a_rebuild_gives_the_same_graph(tmp_path: Path, name: str) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript exports the graphs; the extra `graphs` installs it")
    from diffvis_widget.scenes.page.graphs import write_graphs

    write_graphs(tmp_path, (name,))
    assert (tmp_path / f"{name}.onnx").read_bytes() == page_graph(name)
    index = json.loads((tmp_path / "graphs.json").read_text())
    assert index.keys() == {name}
    rebuilt, committed = index[name], dict(graph_index()[name])
    assert rebuilt.pop("sigmas", []) == pytest.approx(committed.pop("sigmas", []), rel=1e-5)
    assert rebuilt == committed
