"""Writes the golden file of the page's engine: what torch, diffusers and the tokenizer compute.

    python -m tests.golden.write_engine

vitest holds js/src/engine to it (js/tests/engine/golden.test.ts), pytest this side (tests/scenes/test_page_engine.py).
"""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATH = Path(__file__).parent / "engine.json.gz"
HARD_PROMPTS = [
    "",
    " ",
    "circle",
    "  two   spaces ",
    "a red circle, above a blue square!",
    "RED Circle",
    "it's the artist's own",
    "left-of-centre well-known",
    "!!??",
    "a...b",
    "100 circles and 2nd ½ ² squares",
    "under_score a_b",
    "café CAFÉ cafe\u0301",
    "naïve Zürich Ångström İstanbul ß ẞ",
    "\u1100\u1161\u11a8 각 한국어 원",
    "赤い丸と青い四角",
    "红色的圆在蓝色的正方形上面",
    "คนวาดวงกลมสีแดง",
    "ကျွန်ုပ်",
    "ខ្មែរ",
    "दायरा लाल",
    "دائرة حمراء فوق مربع أزرق",
    "עיגול אדום",
    "Красный круг",
    "κύκλος ΣΑΣ",
    "👍🏽 👨‍👩‍👧 🇫🇷🇩🇪 ❤️ 🧑🏿‍🚀",
    "a <|endoftext|> b",
    "<|startoftext|><|endoftext|>",
    "<|STARTOFTEXT|> x",
    "a\tb\nc\u00a0d\u3000e",
    "I'll we've they'd don't ’tis rock’n’roll",
    "x" * 200,
    "word " * 100,
    "ﬁne ﬀ ①②",
    "ＦＵＬＬ width ｶﾞ",
    "a\u0301\u0323 b\u0323\u0301",
    "\u200bzero\u200cwidth\u200d",
    "\ufeffbom",
    "e=mc^2; {json: [1, 2]}",
    "https://example.org/?a=b&c=d",
    "$5 €6 £7 %8",
]
SEEDS = [0, 1, 7, 42, 2**31, 2**32 - 1, 2**32 + 5, 2**53 - 1]
SCHEDULES = [(steps, strength) for steps in (1, 2, 3, 12, 30, 49, 100) for strength in (0, 10, 60, 61.5, 130)]


def prompts() -> list[str]:
    """The hard prompts, and random ones of words of many scripts: 500."""
    parts = sorted({part for prompt in HARD_PROMPTS for part in prompt.split() if len(part) < 20})
    parts += [
        "a",
        "red",
        "circle",
        "above",
        "triangle",
        "striped",
        "balloon",
        "photograph",
        "tyrannosaurus",
        ",",
        "-",
        ".",
    ]
    generator = random.Random(5)
    drawn = [" ".join(generator.choices(parts, k=generator.randint(1, 9))) for _ in range(500 - len(HARD_PROMPTS))]
    return HARD_PROMPTS + drawn


def token_rows() -> list[dict[str, Any]]:
    from diffvis_widget import scenes
    from diffvis_widget.tracer.words import find_words, read_tokens
    from diffvis_widget.traces.prompt_words import split_words

    tokenizer = scenes.load().tokenizer
    rows: list[dict[str, Any]] = []
    for prompt in prompts():
        encoding = tokenizer(prompt, padding="max_length", truncation=True)
        words = find_words(read_tokens(tokenizer, encoding.encodings[0]), prompt, prompt)
        typed = [[word.text, list(word.tokens), list(word.token_texts)] for word in words if word.kind != "padding"]
        ids = encoding["input_ids"]
        end = next((index for index in range(1, len(ids)) if set(ids[index:]) == {7681}), len(ids))
        split = [prompt[start:stop] for start, stop in split_words(prompt)]
        rows.append({"prompt": prompt, "ids": ids[:end], "words": typed, "split": split})
    return rows


def noise_rows() -> list[dict[str, Any]]:
    import torch

    rows: list[dict[str, Any]] = []
    for seed in SEEDS:
        bits = torch.empty(800, dtype=torch.int64)  # each takes two draws of 32 bits, of which the second stays
        generator = torch.Generator().manual_seed(seed)
        bits.random_(0, 2**32, generator=generator)
        noise = torch.randn(4 * 12 * 12, generator=torch.Generator().manual_seed(seed))
        short = torch.randn(21, generator=torch.Generator().manual_seed(seed))
        rows.append(
            {
                "seed": seed,
                "bits": bits[::80].tolist(),
                "noise": [float(f"{value:.9g}") for value in noise[::9].tolist()],
                "short": [float(f"{value:.9g}") for value in short.tolist()],
            }
        )
    return rows


def schedule_rows() -> list[dict[str, Any]]:
    from diffvis_widget import scenes, timesteps

    rows: list[dict[str, Any]] = []
    for kind, (steps, strength) in itertools.product(("uniform", "early", "late"), SCHEDULES):
        scheduler: Any = scenes.load().scheduler if not rows else rows[0]["scheduler"]
        row: dict[str, Any] = {"schedule": kind, "steps": steps, "strength": strength, "scheduler": scheduler}
        rows.append(row)
        try:
            if kind == "uniform":
                scheduler.set_timesteps(steps)
            else:
                scheduler.set_timesteps(timesteps=timesteps(kind, steps, strength))  # pyright: ignore[reportArgumentType]
        except ValueError as error:
            row["error"] = str(error)
            continue
        row["timesteps"] = scheduler.timesteps.tolist()
        row["sigmas"] = [float(f"{value:.7g}") for value in scheduler.sigmas.tolist()]
    return [{name: value for name, value in row.items() if name != "scheduler"} for row in rows]


def solver_row() -> dict[str, Any]:
    """Three steps of the solver on made-up predictions."""
    import torch

    from diffvis_widget import scenes

    scheduler: Any = scenes.load().scheduler
    scheduler.set_timesteps(3)
    latents = torch.linspace(-2, 2, 8)
    rows: list[list[float]] = []
    for step, time in enumerate(scheduler.timesteps):
        prediction = torch.cos(latents * (step + 1))
        latents = scheduler.step(prediction, time, latents).prev_sample
        rows.append([float(f"{value:.9g}") for value in latents.tolist()])
    return {"sigmas": scheduler.sigmas.tolist(), "latents": rows}


def refinement_row() -> dict[str, Any]:
    """The refined maps of made-up maps on four positions, one of them without attention; and of words that compete."""
    import torch

    from diffvis_widget.tracer import exclusive_words
    from diffvis_widget.tracer.refinement import SelfAttention, refine
    from diffvis_widget.traces import Word

    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, 4, 3, generator=generator) for _ in range(2))  # (heads, positions, width)
    maps = torch.rand(1, 3, 2, 2, generator=generator)
    maps[0, 1] = 0
    attention = SelfAttention("layer", [query], [key], None, 0.5)
    refined = refine(maps, attention, (2, 2))
    words = [Word(text, (index,), "word") for index, text in enumerate(("a", "BLUE", "boat", "night"))]
    concepts = ["Red", "star", "sky", "green", "sea"]
    mean, last = (torch.rand(1, len(words) + len(concepts), 2, 2, generator=generator) for _ in range(2))
    groups = (exclusive_words.COLOURS, exclusive_words.OBJECTS, exclusive_words.SETTINGS)
    both = [part.split([len(words), len(concepts)], dim=1) for part in (mean, last)]
    of_words = exclusive_words.compete_in_prompt([exclusive_words.find_rivals_in_prompt(groups, words)], both[0][0])
    rivals = [exclusive_words.find_rivals(groups, concepts, words)]
    of_concepts, competition = exclusive_words.compete(rivals, both[0], both[1])
    parts = [refine(of_words, attention, (2, 2)), refine(of_concepts, attention, (2, 2), competition)]
    competed = torch.cat(parts, dim=-1)
    weights = (query @ key.transpose(1, 2) * 0.5).softmax(dim=-1).mean(dim=0)
    return {
        "maps": maps[0].flatten().tolist(),
        "weights": weights.flatten().tolist(),
        "refined": refined[0, 0].T.flatten().tolist(),
        "words": [word.text for word in words],
        "concepts": concepts,
        "mean": mean.flatten().tolist(),
        "last": last.flatten().tolist(),
        "competed": competed[0, 0].T.flatten().tolist(),
    }


def emergence_rows() -> list[dict[str, Any]]:
    """Steps of emergence: of a clear concept, one below the null band, one far below another, one that falls."""
    import numpy as np

    from diffvis_widget.concepts import emergence

    clear, low, weak = [0.1, 0.15, 0.3, 0.25, 0.5], [0.0, 0.1, 0.15, 0.16, 0.18], [0.1, 0.2, 0.2, 0.24, 0.28]
    sets = [[clear], [clear, low, weak, clear[::-1]], [weak, low], [[0.3]], []]
    rows: list[dict[str, Any]] = []
    for curves in sets:
        cosine = np.array(curves, np.float32).T if curves else np.zeros((5, 0), np.float32)
        null_band = np.tile(np.array([[0.0, 0.2]], np.float32), (len(cosine), 1))
        steps = emergence(cosine, null_band)
        rows.append(
            {
                "cosine": cosine.tolist(),
                "null_band": null_band.tolist(),
                "emergence": [None if np.isnan(step) else int(step) for step in steps],
            }
        )
    return rows


def decision_rows() -> list[dict[str, Any]]:
    """Decision curves of made-up shares: of one seed, of few and many, of none that differ."""
    import numpy as np

    from diffvis_widget import DecisionCurve

    generator = np.random.default_rng(1)
    points = np.array([0, 2, 4, 7, 10], np.int64)
    rows: list[dict[str, Any]] = []
    for seeds, height in ((1, 1.0), (2, 0.9), (5, 1.0), (8, 0.3), (32, 1.0), (3, 0.1)):
        noise = generator.uniform(0, 0.1, (seeds, 5))
        share = np.clip(height * np.array([0.0, 0.1, 0.45, 0.9, 1.0]) + noise - 0.05, 0, 1).astype(np.float32)
        cosine = np.zeros((seeds, 5, 2), np.float32)
        curve = DecisionCurve("a", "b", "a", "b", 10, points, np.arange(seeds), ["a", "b"], cosine, share)

        def finite(values: Any) -> Any:
            return [float(value) if np.isfinite(value) else None for value in np.ravel(values)]

        rows.append(
            {
                "points": points.tolist(),
                "shares": share.tolist(),
                "mean": finite(curve.mean),
                "band": finite(curve.band),
                "decision": finite(curve.decision)[0],
                "interval": finite(curve.interval),
                "agreeing": curve.agreeing,
            }
        )
    return rows


def replacement_rows() -> list[dict[str, Any]]:
    """Prompts in which a word is replaced."""
    from diffvis_widget.intervene.decision_runs import _replaced

    cases = [
        ("a red circle above a red square", "red", "blue"),
        ("A RED Circle", "red", "dark blue"),
        ("a cafe\u0301, CAFÉ!", "café", "bar"),
        ("the artist’s house", "artist's", "painter's"),
        ("die Straße und die STRASSE", "strasse", "Allee"),
        ("ΣΑΣ και σας", "σας", "μας"),
        ("👍🏽 a red circle 🇫🇷", "🇫🇷", "🇩🇪"),
        ("一只黑猫", "黑猫", "白狗"),
        ("left-of-centre star", "of-centre", "handed"),
        ("دائرة حمراء فوق مربع", "حمراء", "زرقاء"),
    ]
    return [
        {"prompt": prompt, "word": word, "to": to, "replaced": _replaced(prompt, word, to)[1]}
        for prompt, word, to in cases
    ]


def outside_rows() -> list[dict[str, Any]]:
    """Words outside the prompt: their tokens, as the tracer encodes them."""
    from diffvis_widget import scenes
    from diffvis_widget.tracer.concept_encoding import encode_concepts, traceable_concepts
    from diffvis_widget.tracer.families import find_family
    from diffvis_widget.traces.prompt_words import occurs

    pipe: Any = scenes.load()
    concepts = ["sky", "green star", "Circle", "tyrannosaurus", "left-of-centre", "👍🏽", "赤い丸", "it's", "x" * 81]
    rows: list[dict[str, Any]] = []
    for prompt in ("a red circle", "sky, a GREEN star"):
        texts = traceable_concepts(pipe, [text for text in concepts if not occurs(text, prompt)])
        encoded = encode_concepts(pipe, find_family(pipe)[0], texts)
        rows.append(
            {
                "prompt": prompt,
                "concepts": concepts,
                "words": [[word.text, list(word.tokens), list(word.token_texts)] for word in encoded.words(32)],
                "positions": [list(positions) for positions in encoded.positions],
                "ids": pipe.tokenizer([f"a {text}" for text in texts], padding="max_length").input_ids,
            }
        )
    return rows


def presence_rows() -> list[dict[str, Any]]:
    """Presence of concepts, and their steps of emergence, by the calibration of the scenes CLIP."""
    import numpy as np

    from diffvis_widget.concepts import emergence
    from diffvis_widget.concepts.calibration import Calibration
    from diffvis_widget.shipped import calibration_file

    concepts = ["circle", "Red", "square", "economy"]
    sigmas = np.array([200.0, 8.0, 2.0, 0.8, 0.2])
    generator = np.random.default_rng(3)
    rows: list[dict[str, Any]] = []
    for _ in range(12):
        cosine = (np.linspace(0.1, generator.uniform(0.1, 0.9, 4), 5) + generator.uniform(0, 0.1, (5, 4))).astype("f4")
        null_band = np.tile(np.array([[0.0, 0.25]], np.float32), (5, 1))
        present = Calibration.read(calibration_file()).present(concepts, cosine, null_band, sigmas)
        rows.append(
            {
                "concepts": concepts,
                "sigmas": sigmas.tolist(),
                "cosine": cosine.tolist(),
                "null_band": null_band.tolist(),
                "present": [[None if np.isnan(value) else int(value) for value in row] for row in present],
                "emergence": [None if np.isnan(step) else int(step) for step in emergence(cosine, null_band, present)],
            }
        )
    return rows


PARTS: dict[str, Callable[[], Any]] = {
    "tokens": token_rows,
    "noise": noise_rows,
    "schedules": schedule_rows,
    "solver": solver_row,
    "refinement": refinement_row,
    "emergence": emergence_rows,
    "presence": presence_rows,
    "decisions": decision_rows,
    "replacements": replacement_rows,
    "outside": outside_rows,
}


def main() -> None:
    text = json.dumps({name: part() for name, part in PARTS.items()}, ensure_ascii=False, separators=(",", ":"))
    PATH.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
