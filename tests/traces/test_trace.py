"""What can be read from a Trace, and which questions it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from diffvis_widget.traces import Saliency, Trace
from diffvis_widget.traces.resize import resize
from tests.traces.build import LAYERS, WORDS, fake_decoder, make_trace


def stored(trace: Trace, step: int, layer: int) -> np.ndarray:
    return trace.records[step].maps[layer].astype(np.float32).mean(axis=0)


def test_shapes_and_types() -> None:
    trace = make_trace()
    assert trace.latents.shape == (4, 4, 8, 12)
    assert trace.predictions.shape == (3, 4, 8, 12)
    assert trace.timesteps.tolist() == [900, 800, 700]
    assert trace.sigmas.tolist() == [5, 4, 3]
    assert [step.second_order for step in trace.steps] == [False, True, False]
    assert trace.guidance is not None
    assert trace.guidance.shape == (3, 8, 12)
    assert make_trace(guidance=False).guidance is None
    assert make_trace(dtype=np.float16).latents.dtype == np.float16
    assert trace.heat_maps().dtype == np.float32


def test_a_single_layer_comes_on_its_own_grid() -> None:
    trace = make_trace()
    np.testing.assert_allclose(trace.heat_map(2, step=1, layer="mid.attn2"), stored(trace, 1, 1)[2], atol=1e-6)
    np.testing.assert_allclose(trace.heat_map(2, step=1, layer=-2), stored(trace, 1, 1)[2], atol=1e-6)


def test_default_layers_are_averaged_on_the_finest_grid() -> None:
    trace = make_trace()
    expected = np.mean([resize(stored(trace, 0, 0), (8, 12)), stored(trace, 0, 2)], axis=0)[1]
    np.testing.assert_allclose(trace.heat_map(1, step=0), expected, atol=1e-6)
    every = np.mean([resize(stored(trace, 0, index), (8, 12)) for index in range(3)], axis=0)[1]
    np.testing.assert_allclose(trace.heat_map(1, step=0, layer="all"), every, atol=1e-6)
    np.testing.assert_allclose(trace.heat_map(1, step=0, layer=["down.attn2", 2]), expected, atol=1e-6)


def test_no_step_means_the_mean_over_steps() -> None:
    trace = make_trace()
    expected = np.mean([trace.heat_map("circle", step=step) for step in range(3)], axis=0)
    np.testing.assert_allclose(trace.heat_map("circle"), expected, atol=1e-6)
    np.testing.assert_array_equal(trace.heat_map("circle", step=-1), trace.heat_map("circle", step=2))


def test_size_resizes() -> None:
    trace = make_trace()
    assert trace.heat_map("circle", size=(96, 144)).shape == (96, 144)
    single = trace.heat_map("circle", step=0, layer=1, size=(5, 4))
    np.testing.assert_allclose(single, resize(stored(trace, 0, 1), (5, 4))[2], atol=1e-6)


def test_words_by_text_index_and_list() -> None:
    trace = make_trace()
    maps = trace.heat_maps()
    np.testing.assert_allclose(trace.heat_map("RED"), maps[1] + maps[4], atol=1e-6)
    np.testing.assert_array_equal(trace.heat_map(4), maps[4])
    np.testing.assert_array_equal(trace.heat_map("red square"), maps[4] + maps[5])
    np.testing.assert_array_equal(trace.heat_map("circle, red"), maps[[2, 3, 4]].sum(axis=0))
    np.testing.assert_allclose(trace.heat_map(["circle", "red", 4]), maps[[2, 1, 4]].sum(axis=0), atol=1e-6)
    np.testing.assert_array_equal(trace.heat_map("padding"), maps[8])
    assert np.isnan(maps[6]).all()
    assert not np.isnan(np.delete(maps, 6, axis=0)).any()


def test_heads() -> None:
    trace = make_trace(keep="heads")
    head_map = trace.heat_map(1, step=0, layer=0, head=1)
    np.testing.assert_array_equal(head_map, trace.records[0].maps[0][1, 1].astype(np.float32))
    both = [trace.heat_map(1, step=0, layer=0, head=head) for head in range(2)]
    np.testing.assert_allclose(trace.heat_map(1, step=0, layer=0), np.mean(both, axis=0), atol=1e-6)


def test_keep_words_has_one_map_per_step() -> None:
    trace = make_trace(keep="words")
    np.testing.assert_array_equal(trace.heat_map(1, step=0), trace.records[0].maps[0][0, 1].astype(np.float32))


@pytest.mark.parametrize(
    ("step", "chosen"),
    [
        ([0, 2], [0, 2]),
        ((-1, 1), [2, 1]),
        (range(2), [0, 1]),
        (np.array([1, 2]), [1, 2]),
        ([1, 1, -2], [1]),
        (slice(None, 2), [0, 1]),
        (slice(-2, None), [1, 2]),
        (slice(None, None, 2), [0, 2]),
        (np.int64(1), [1]),
    ],
    ids=["list", "tuple", "range", "array", "repeated", "first two", "last two", "every second", "numpy integer"],
)
def test_the_map_of_several_steps_is_the_mean_of_their_maps(step: Any, chosen: list[int]) -> None:
    trace = make_trace(negative=True)
    expected = np.mean([trace.heat_map("circle", step=index) for index in chosen], axis=0)
    assert trace.heat_map("circle", step=step) == pytest.approx(expected, abs=1e-6)
    maps = np.mean([trace.heat_maps(step=index)[5] for index in chosen], axis=0)
    assert trace.heat_maps(step=step)[5] == pytest.approx(maps, abs=1e-6)
    assert trace.negative is not None
    assert trace.negative.heat_map("red", step=step).shape == (8, 12)


def test_without_default_layers_the_mean_is_over_all() -> None:
    trace = make_trace(layers=[replace(layer, default=False) for layer in make_trace().layers])
    assert np.array_equal(trace.heat_map("circle"), trace.heat_map("circle", layer="all"))


@pytest.mark.parametrize("value", [5, "scores", [5], {"a": 1}, float("nan")], ids=repr)
@pytest.mark.parametrize("name", ["scores", "saliency", "relevance", "notes"])
def test_results_of_another_kind_are_refused(name: str, value: Any) -> None:
    trace = make_trace()
    with pytest.raises(TypeError, match=f"^{name} must be"):
        setattr(trace, name, value)
    assert not trace.stored_results


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"word": "triangle"}, KeyError, "'Red', 'circle', ',', 'red', 'square'"),
        ({"word": "red circle blue"}, KeyError, "not in the prompt"),
        ({"word": ""}, KeyError, "not in the prompt"),
        ({"word": "lost"}, KeyError, "cut off"),
        ({"word": 6}, KeyError, "cut off"),
        ({"word": 9}, IndexError, "0 to 8"),
        ({"word": -1}, IndexError, "0 to 8"),
        ({"word": []}, ValueError, "empty"),
        ({"word": None}, TypeError, "text of the prompt"),
        ({"word": 1.0}, TypeError, "not 1.0"),
        ({"word": True}, TypeError, "not True"),
        ({"word": 1, "step": 3}, IndexError, "are 0 to 2"),
        ({"word": 1, "step": 0.5}, TypeError, "step must be an integer"),
        ({"word": 1, "step": []}, ValueError, "step: the list is empty"),
        ({"word": 1, "step": [0, 3]}, IndexError, "are 0 to 2"),
        ({"word": 1, "step": [0.5]}, TypeError, "step must be an integer"),
        ({"word": 1, "step": slice(3, None)}, IndexError, "holds no step"),
        ({"word": 1, "step": slice(0, 3, 0)}, ValueError, "step: slice(0, 3, 0)"),
        ({"word": 1, "step": slice("a")}, TypeError, "step: slice(None, 'a', None)"),
        ({"word": 1, "step": float("nan")}, TypeError, "not nan"),
        ({"word": 1, "step": 10**400}, IndexError, "are 0 to 2"),
        ({"word": [["circle"]]}, TypeError, "word: a list"),
        ({"word": "cirle"}, KeyError, "did you mean 'circle'?"),
        ({"word": 1, "layer": "mid.atn2"}, KeyError, "did you mean 'mid.attn2'?"),
        ({"word": 1, "kind": "probabilty"}, ValueError, "did you mean 'probability'?"),
        ({"word": 1, "layer": "attn2"}, KeyError, "down.attn2, mid.attn2, up.attn2"),
        ({"word": 1, "layer": 3}, IndexError, "layers 0 to 2"),
        ({"word": 1, "layer": []}, ValueError, "empty"),
        ({"word": 1, "layer": [None]}, TypeError, "None"),
        ({"word": 1, "layer": 1.5}, TypeError, "layer must be"),
        ({"word": 1, "head": 0}, ValueError, 'keep="heads"'),
        ({"word": 1, "size": 64}, TypeError, "(height, width)"),
        ({"word": 1, "size": (0, 4)}, ValueError, "between 1 and 8192"),
        ({"word": 1, "size": (4.0, 4)}, TypeError, "integer"),
    ],
)
def test_questions_that_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        make_trace().heat_map(**arguments)
    assert message in str(caught.value)


def test_other_kinds_of_keep_refuse() -> None:
    with pytest.raises(ValueError, match='this has "words"'):
        make_trace(keep="words").heat_map(1, layer=0)
    with pytest.raises(IndexError, match="heads 0 to 1"):
        make_trace(keep="heads").heat_map(1, head=2)


def test_an_empty_trace_says_so() -> None:
    trace = Trace(prompt="x", negative_prompt=None, words=WORDS, layers=LAYERS, keep="layers", meta={})
    for read in (lambda: trace.latents, lambda: trace.predictions, lambda: trace.frames("latents"), trace.heat_maps):
        with pytest.raises(ValueError, match="no step"):
            read()
    assert trace.steps == []
    assert trace.guidance is None


def test_frames_are_decoded_once() -> None:
    calls: list[int] = []

    def counting(latents: Any) -> Any:
        calls.append(len(latents))
        return fake_decoder(latents)

    trace = make_trace(decoder=counting)
    frames = trace.frames("prediction")
    np.testing.assert_array_equal(frames, fake_decoder(trace.predictions))
    trace.append(trace.records[0])
    assert len(trace.frames("prediction")) == 4
    assert sum(calls) == 4
    np.testing.assert_array_equal(trace.image, fake_decoder(trace.latents[-1:])[0])


def test_latents_are_shown_at_the_scale_the_vae_knows() -> None:
    trace = make_trace()
    scaled = trace.latents[:3] * np.array([1, 1 / 2, 1 / 3], dtype=np.float32)[:, None, None, None]
    np.testing.assert_allclose(trace.visible_latents, scaled, rtol=1e-6)
    np.testing.assert_array_equal(trace.frames("latents"), fake_decoder(trace.visible_latents))


def test_guidance_frames_are_grey_on_the_latent_grid() -> None:
    frames = make_trace().frames("guidance")
    assert frames.shape == (3, 8, 12, 3)
    assert frames.max() == 255
    with pytest.raises(ValueError, match="no guidance"):
        make_trace(guidance=False).frames("guidance")
    with pytest.raises(ValueError, match="kind must be"):
        make_trace().frames("image")  # pyright: ignore[reportArgumentType]


def test_reused_can_be_read_while_the_run_grows() -> None:
    class Growing(list[Any]):
        """Gets a record more each time that it is measured, as if another thread appended."""

        def __len__(self) -> int:
            size = super().__len__()
            if size < 10:
                self.append(self[0])
            return size

    trace = make_trace(negative=True)
    trace._records = Growing(trace._records)
    assert trace.reused.shape[1] == len(LAYERS)


def test_nbytes_counts_every_array_once() -> None:
    trace = make_trace(negative=True)
    records = trace.records
    latents = sum(record.latents.nbytes + record.prediction.nbytes for record in records) + records[-1].result.nbytes
    maps = sum(part.nbytes for record in records for part in (*record.maps, *(record.negative or ())))
    guidance = sum(record.guidance.nbytes for record in records if record.guidance is not None)
    assert trace.nbytes >= latents + maps + guidance
    before = trace.nbytes
    frames = trace.frames("prediction")
    assert trace.nbytes == before + frames.nbytes
    before, image = trace.nbytes, trace.image
    assert trace.nbytes == before + image.nbytes
    before, saliency = trace.nbytes, Saliency("df_cam", 0, np.zeros((8, 12), np.float32))
    trace.saliency.append(saliency)
    assert trace.nbytes == before + saliency.map.nbytes
    before, outputs = trace.nbytes, tuple(part.copy() for part in records[0].maps)
    trace._records[0] = replace(records[0], outputs=outputs)
    assert trace.nbytes == before + sum(part.nbytes for part in outputs)
