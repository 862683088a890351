"""The code of docs/pages/add-a-family.md adds a family from outside the package and uses it end to end."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import nn

import diffvis_widget as dv
from diffvis_widget.tracer.families import (
    Family,
    TokenStream,
    find_family,
    modules_ending,
    register,
    registered_families,
    sequence_layouts,
    unregister,
)
from diffvis_widget.traces import Trace
from diffvis_widget.wire.packed_run import unpack
from tests import pipelines
from tests.tracer.reference import assert_stored

PAGE = (Path(__file__).parents[3] / "docs/pages/add-a-family.md").read_text(encoding="utf-8")
IN_THE_PACKAGE, FROM_OUTSIDE = PAGE.split("\n## From outside\n")
NAME = "Tiny transformer"
PROMPT = "a red circle above a blue square"
HEADS, WIDTH = 4, 32


def python_of(text: str) -> str:
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return "\n".join(textwrap.dedent(block) for block in blocks)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def documented(folder: Path) -> Iterator[dict[str, Any]]:
    """The variables after the page's code has run in an empty folder."""
    variables: dict[str, Any] = {"__name__": "page"}
    before = registered_families()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        try:
            exec(compile(python_of(FROM_OUTSIDE), "add-a-family.md", "exec"), variables)
            yield variables
        finally:
            if "widget" in variables:
                variables["widget"].close()
            if NAME in [family.name for family in registered_families()]:
                unregister(NAME)
    assert registered_families() == before


def image_of(pipe: Any, steps: int = 4) -> np.ndarray:
    return np.asarray(pipe(PROMPT, num_inference_steps=steps, generator=torch.Generator().manual_seed(7)).images[0])


def projections(pipe: Any) -> tuple[np.ndarray, list[list[tuple[torch.Tensor, torch.Tensor]]]]:
    """The image of an untraced run, and the queries and keys of each block at each evaluation."""
    calls: list[list[tuple[torch.Tensor, torch.Tensor]]] = []
    handles: list[Any] = []
    for block in pipe.transformer.blocks:
        queries: list[torch.Tensor] = []
        pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
        calls.append(pairs)

        def add_query(module: Any, args: Any, output: Any, queries: list[torch.Tensor] = queries) -> None:
            queries.append(output.clone())

        def add_pair(
            module: Any, args: Any, output: Any, queries: list[torch.Tensor] = queries, pairs: list[Any] = pairs
        ) -> None:
            pairs.append((queries.pop(), output.clone()))

        handles += [
            block.attn.to_q.register_forward_hook(add_query),
            block.attn.to_k.register_forward_hook(add_pair),
        ]
    try:
        return image_of(pipe), calls
    finally:
        for handle in handles:
            handle.remove()


def probabilities(query: torch.Tensor, key: torch.Tensor) -> np.ndarray:
    """float32 (heads, queries, keys): a naive softmax over (tokens, heads * width)."""
    result: list[torch.Tensor] = []
    width = WIDTH // HEADS
    for head in range(HEADS):
        columns = slice(head * width, (head + 1) * width)
        scores = torch.exp(query[:, columns] @ key[:, columns].T / width**0.5)
        result.append(scores / scores.sum(dim=1, keepdim=True))
    return torch.stack(result).numpy()


def test_tracing_leaves_the_image_unchanged_and_the_maps_are_exact(documented: dict[str, Any]) -> None:
    pipe, trace = documented["pipe"], documented["trace"]
    image, calls = projections(pipe)
    assert np.array_equal(trace.image, image)
    with dv.Tracer(pipe) as tracer:
        traced = image_of(pipe)
    assert np.array_equal(traced, image)
    assert np.array_equal(tracer.trace.image, image)
    assert [word.text for word in trace.words if word.kind == "word"] == PROMPT.split()
    assert [(layer.name, layer.kind, layer.heads, layer.grid) for layer in trace.layers] == [
        (f"blocks.{index}.attn", "joint", HEADS, (6, 6)) for index in range(2)
    ]
    text = 1 + max(token for word in trace.words for token in word.tokens)
    assert text == pipe.tokenizer.model_max_length
    for layer, evaluations in enumerate(calls):
        assert len(evaluations) == len(trace.steps) == 4
        for step, (query, key) in enumerate(evaluations):
            shares = probabilities(query[1], key[1])[:, text:, :text]  # the second row carries the prompt
            for index, word in enumerate(trace.words):
                if word.kind == "padding":
                    continue
                expected = shares[:, :, list(word.tokens)].sum(axis=2).reshape(HEADS, 6, 6)
                assert_stored(trace.records[step].maps[layer][:, index], expected, 1e-5)
                shown = trace.heat_map(index, step=step, layer=layer)
                np.testing.assert_allclose(shown, expected.mean(axis=0), rtol=2.0**-11, atol=1e-5)
    assert trace.heat_map("red circle").std() > 0


def test_the_negative_prompt_and_guidance_are_recorded(documented: dict[str, Any]) -> None:
    trace = dv.trace(documented["pipe"], PROMPT, seed=7, num_inference_steps=2, negative_prompt="green fog")
    assert trace.negative is not None
    assert [word.text for word in trace.negative.words if word.kind == "word"] == ["green", "fog"]
    assert trace.guidance is not None
    assert trace.meta["guidance_scale"] == 3.0
    denoiser = dv.denoiser(trace, 1)
    torch.testing.assert_close(denoiser(denoiser.latents), denoiser.output, rtol=1e-4, atol=1e-5)


def test_relevance_and_interventions_work_too(documented: dict[str, Any]) -> None:
    pipe = documented["pipe"]
    trace = dv.trace(pipe, PROMPT, seed=7, num_inference_steps=2, interventions=[dv.intervene.drop("red")])
    plain = dv.trace(pipe, PROMPT, seed=7, num_inference_steps=2)
    red = next(index for index, word in enumerate(trace.words) if word.text == "red")
    assert trace.heat_map(red).max() == 0
    assert plain.heat_map(red).min() > 0
    saliency = documented["trace"].saliency
    assert [(entry.method, entry.step) for entry in saliency] == [("df_cam", 2)]
    assert saliency[0].map.std() > 0


def test_saved_runs_open_without_the_family(documented: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    trace = documented["trace"]
    compact = trace.save(tmp_path / "compact", compact=True)
    family, _ = find_family(documented["pipe"])
    unregister(NAME)
    try:
        assert_same_run(dv.open_trace(folder / "run.safetensors"), trace, 0)
        assert_same_run(dv.open_trace(compact), trace, 5e-3)
    finally:
        register(family)


def assert_same_run(opened: Trace, trace: Trace, tolerance: float) -> None:
    assert (opened.prompt, opened.words, opened.meta["pipeline"]) == (trace.prompt, trace.words, "TinyPipeline")
    assert [layer.name for layer in opened.layers] == [layer.name for layer in trace.layers]
    for word in ("red", "blue square"):
        np.testing.assert_allclose(opened.heat_map(word), trace.heat_map(word), atol=tolerance)


def test_the_offline_page_shows_the_run(documented: dict[str, Any], folder: Path) -> None:
    packed = re.search(r'id="dv-run"[^>]*>([^<]*)<', (folder / "run.html").read_text(encoding="utf-8"))
    assert packed is not None
    messages = unpack(gzip.decompress(base64.b64decode(packed[1])))
    run = next(message.content for message in messages if message.content["type"] == "run")
    assert run["pipeline"] == "TinyPipeline"
    assert [word["text"] for word in run["words"] if word["kind"] == "word"] == PROMPT.split()
    assert sum(message.content["type"] == "step" for message in messages) == 4
    assert (folder / "step.png").stat().st_size > 0


def test_the_widget_runs_the_pipeline(documented: dict[str, Any]) -> None:
    widget, pipe = documented["widget"], documented["pipe"]
    assert widget.wait(60)
    assert (widget.status, widget.error) == ("done", "")
    expected = dv.trace(pipe, "a red circle", seed=7, num_inference_steps=3, guidance_scale=widget.guidance_scale)
    assert np.array_equal(widget.trace.image, expected.image)
    assert np.array_equal(widget.trace.heat_map("circle"), expected.heat_map("circle"))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' schedulers
def test_without_registration_the_run_has_no_words(documented: dict[str, Any]) -> None:
    pipe = documented["pipe"]
    family, _ = find_family(pipe)
    assert family.name == NAME
    unregister(NAME)
    try:
        with pytest.warns(UserWarning, match=r"a TinyTransformer, has no attention to words .*add-a-family\.md"):
            trace = dv.trace(pipe, PROMPT, seed=7, num_inference_steps=4)
        assert trace.words == []
        assert np.array_equal(trace.image, documented["trace"].image)
    finally:
        register(family)


def test_the_file_for_the_package_defines_a_family() -> None:
    variables: dict[str, Any] = {"__package__": "diffvis_widget.tracer.families", "__name__": "page"}
    exec(python_of(IN_THE_PACKAGE), variables)
    register(variables["FAMILY"])
    unregister("My model")


def test_the_page_explains_every_field() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", IN_THE_PACKAGE, re.MULTILINE)
    assert rows == [field.name for field in dataclasses.fields(Family)]


# -- the registry ------------------------------------------------------------------------------------------------------


class Plain(nn.Module):
    """A denoiser with one attention module."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.ModuleDict({"attn": Attention(8, heads=2, dim_head=4)})


class Refined(Plain):
    """A subclass."""


class Pipeline:
    """As much of a pipeline as the registry looks at."""

    def __init__(self, **modules: nn.Module) -> None:
        self.components: dict[str, Any] = modules
        vars(self).update(modules)

    def __call__(self) -> None:
        """Generate nothing."""


def family(name: str = "plain", denoisers: Any = ("Plain",), **fields: Any) -> Family:
    defaults: dict[str, Any] = {"attention_kind": "cross", "attention_modules": modules_ending(".attn")}
    return Family(name, denoisers, **(defaults | fields))


@pytest.fixture
def added() -> Iterator[None]:
    """Removes the families that a test added."""
    before = registered_families()
    yield
    for entry in registered_families()[len(before) :]:
        unregister(entry.name)
    assert registered_families() == before


@pytest.mark.usefixtures("added")
def test_a_family_is_found_by_the_class_of_the_denoiser() -> None:
    denoiser = Refined()
    assert find_family(Pipeline(transformer=denoiser))[0].name == "Refined"  # unknown: named after its class
    register(family())
    assert find_family(Pipeline(transformer=Plain()))[0].name == "plain"
    assert find_family(Pipeline(transformer=denoiser)) == (registered_families()[-1], denoiser)
    register(family("refined", ("Refined",)))
    register(family("plain again", ("Plain",)))
    assert find_family(Pipeline(transformer=denoiser))[0].name == "refined"
    assert find_family(Pipeline(transformer=Plain()))[0].name == "plain again"
    unregister("plain again")
    assert find_family(Pipeline(transformer=Plain()))[0].name == "plain"


@pytest.mark.usefixtures("added")
def test_a_family_that_chooses_its_pipelines_comes_first() -> None:
    register(family("choosy", accepts=lambda pipe: isinstance(pipe, Pipeline) and "vae" in pipe.components))
    register(family())
    assert find_family(Pipeline(transformer=Plain()))[0].name == "plain"
    assert find_family(Pipeline(transformer=Plain(), vae=nn.Module()))[0].name == "choosy"


@pytest.mark.usefixtures("added")
def test_the_denoiser_may_have_an_attribute_of_its_own() -> None:
    denoiser = Plain()
    with pytest.raises(ValueError, match=r"Pipeline has no denoiser .*`unet`, `transformer`.*add-a-family\.md"):
        find_family(Pipeline(decoder=denoiser))
    register(family(denoiser_attribute="decoder"))
    assert find_family(Pipeline(decoder=denoiser)) == (registered_families()[-1], denoiser)
    # a transformer of another kind, such as a prior, does not hide it
    assert find_family(Pipeline(transformer=nn.Linear(1, 1), decoder=denoiser))[1] is denoiser
    # another module of that name is no denoiser
    with pytest.raises(ValueError, match="has no denoiser"):
        find_family(Pipeline(decoder=nn.Linear(1, 1)))


@pytest.mark.usefixtures("added")
def test_an_added_family_takes_precedence_over_one_of_the_package() -> None:
    pipe = pipelines.stable_diffusion()
    builtin, denoiser = find_family(pipe)
    register(dataclasses.replace(builtin, name="mine"))
    assert find_family(pipe) == (registered_families()[-1], denoiser)
    unregister("mine")
    assert find_family(pipe)[0] is builtin


@pytest.mark.usefixtures("added")
def test_a_name_is_taken_once() -> None:
    register(family())
    with pytest.raises(ValueError, match="the name 'plain' is taken; unregister that family, or use another name"):
        register(family(denoisers=("Other",)))
    with pytest.raises(ValueError, match=r"the name 'FLUX\.1' is taken"):
        register(family("FLUX.1"))
    unregister("plain")
    register(family(denoisers=("Other",)))


@pytest.mark.usefixtures("added")
def test_only_added_families_can_be_removed() -> None:
    with pytest.raises(KeyError, match=r"no family 'FLUX\.1' was added by register; added families: "):
        unregister("FLUX.1")
    register(family())
    with pytest.raises(KeyError, match=r"no family 'other' was added by register; added families: .*'plain'"):
        unregister("other")


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ("plain", TypeError, "family must be a Family, not str"),
        (family(denoisers="Plain"), TypeError, r"denoisers must be a tuple of class names, .* not 'Plain'"),
        (family(denoisers=(Plain,)), TypeError, "denoisers must be a tuple of class names"),
        (family(denoisers=()), ValueError, "name and denoisers .* must not be empty"),
        (family(name=" "), ValueError, "name and denoisers .* must not be empty"),
        (family(attention_kind="self"), ValueError, '"cross" or "joint", not \'self\''),
        (family(attention_kind="joint"), ValueError, "joint attention needs sequence_layout"),
        (
            Family("plain", ("Plain",), token_streams=(TokenStream(("tokenizer",)),)),
            ValueError,
            "joint attention needs sequence_layout",
        ),
        (family(sequence_layout=sequence_layouts.text_first), ValueError, "sequence_layout is for joint attention"),
    ],
)
def test_families_that_cannot_be_used_are_refused(entry: Any, error: type[Exception], message: str) -> None:
    before = registered_families()
    with pytest.raises(error, match=message):
        register(entry)
    assert registered_families() == before
