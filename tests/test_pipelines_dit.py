"""The tiny pipelines do what the real ones do: a finite image of the size asked for, that follows seed and prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny_tokenizers
from tests.pipelines_dit import FAMILIES

PROMPT = "a red circle above a blue square"
OTHER = "three yellow houses by the sea"
TOKENIZERS = {
    "t5": tiny_tokenizers.t5,
    "gemma": tiny_tokenizers.gemma,
    "qwen": tiny_tokenizers.qwen,
    "llama3": tiny_tokenizers.llama3,
    "glm": tiny_tokenizers.glm,
    "mistral": lambda: tiny_tokenizers.mistral().tokenizer,
    "bert": tiny_tokenizers.bert,
}


def image(pipe: Any, name: str, prompt: str = PROMPT, seed: int = 7) -> np.ndarray:
    arguments = FAMILIES[name].arguments
    generator = torch.Generator().manual_seed(seed)
    output = pipe(prompt=prompt, generator=generator, output_type="np", **arguments)
    return (output.image if name == "kandinsky5" else output.images)[0][..., :3]  # some have a transparency


def denoiser(pipe: Any) -> Any:
    return getattr(pipe, "transformer", None) or pipe.unet


@pytest.fixture
def spreads(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Standard deviation of the scores of a query over its keys, for each attention of five keys or more."""
    attend = torch.nn.functional.scaled_dot_product_attention
    seen: list[float] = []

    def measured(query: torch.Tensor, key: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        if min(query.shape[2], key.shape[2]) > 4 and query.shape[1] == key.shape[1]:
            scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
            seen.append(scores.std(-1).mean().item())
        return attend(query, key, *rest, **named)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", measured)
    return seen


@pytest.mark.parametrize("name", FAMILIES)
def test_every_tiny_pipeline_follows_seed_and_prompt(name: str) -> None:
    case = FAMILIES[name]
    pipe = case.build()
    first = image(pipe, name)
    assert first.shape == (case.arguments["height"], case.arguments["width"], 3)
    assert np.isfinite(first).all()
    assert first.std() > 0.02
    for other in (image(pipe, name, prompt=OTHER), image(pipe, name, seed=8)):
        assert np.abs(other - first).max() > 4 / 255
    assert np.array_equal(image(case.build(), name), first)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_case_is_guided_as_it_says_and_its_attention_is_uneven(name: str, spreads: list[float]) -> None:
    case = FAMILIES[name]
    pipe = case.build()
    batches: list[int] = []
    steps: list[Any] = []
    within: list[float] = []

    def before(module: Any, args: Any, named: Any) -> None:
        batches.append(len(args[0] if args else named.get("hidden_states", named.get("sample", named.get("x")))))
        spreads.clear()

    step = pipe.scheduler.step
    pipe.scheduler.step = lambda *args, **named: (steps.append(args), step(*args, **named))[1]
    denoiser(pipe).register_forward_pre_hook(before, with_kwargs=True)
    denoiser(pipe).register_forward_hook(lambda *_: within.extend(spreads))
    image(pipe, name)
    assert np.quantile(within, 0.2) > 0.3  # the prompt that is empty gives a few even ones
    halves = 3 if case.arguments.get("pag_scale", 0) > 0 else 2 if case.guided == "batch" else 1
    assert batches == [halves] * len(steps) * (2 if case.guided == "two calls" else 1)
    assert bool(getattr(denoiser(pipe).config, "guidance_embeds", False) or name == "lcm") == (
        case.guided == "embedded" or name == "flux-two-calls"
    )


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenizers_split_any_text_and_keep_to_the_length(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    text = "a red quixotic circle, naïvely 猫 ☃"
    encoded = tokenizer(text, return_offsets_mapping=True)
    spans = [tuple(span) for span in encoded["offset_mapping"]]
    covered = {place for start, end in spans for place in range(start, end)}
    assert all(place in covered or character == " " for place, character in enumerate(text))
    assert sum(text.index("quixotic") <= start < text.index(" circle") for start, _ in spans) > 1
    if tokenizer.pad_token is not None:
        options = {"padding": "max_length", "max_length": 12, "truncation": True, "return_tensors": "pt"}
        batch = tokenizer(["a red", text], **options)
        assert batch["input_ids"].shape == (2, 12)
        assert batch["attention_mask"].sum(1).tolist() == [len(tokenizer("a red")["input_ids"]), 12]


def test_the_template_of_qwen_image_is_as_long_as_the_pipeline_takes_it_to_be() -> None:
    pipe = FAMILIES["qwen"].build()
    before = pipe.prompt_template_encode.split("{}")[0]
    assert len(pipe.tokenizer(before)["input_ids"]) == pipe.prompt_template_encode_start_idx
    texts, mask = pipe.encode_prompt(PROMPT)
    after = pipe.prompt_template_encode.split("{}")[1]
    assert texts.shape[1] == len(pipe.tokenizer(PROMPT + after)["input_ids"])
    assert mask is None
