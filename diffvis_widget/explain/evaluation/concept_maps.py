"""Maps of words outside the prompt: `python -m diffvis_widget.explain.evaluation.concept_maps`.

The first part asks whether they follow things as well as those of the prompt's words: held-out renderings with known
masks, noised to ten levels; each word of the caption is read as a word of the prompt and, in the same run, as a concept
outside of it. A word that the caption has twice, for two things, has the region of each as a word of the prompt; as a
concept it names both, and its region is both. The second part asks whether they tell like things apart: renderings of
two things of one shape in two colours, and the share of a colour's map that lies on the thing of the other colour. The
third part (`--heads`) asks the same of the one attention head that tells colours apart best. The fourth part
(`--unnamed`) asks for what the prompt does not name: renderings of two things, and a prompt that names one of them. How
words compete that exclude each other, and the head, were chosen on other renderings: the pairs 100 to 149, and the
held-out scenes 200 to 279.

The measurements are appended to concept_maps.jsonl in a folder, and an interrupted evaluation resumes there; the tables
are written to the folder's README.md.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.scenes import Scene, load
from diffvis_widget.scenes.evaluation.captions import held_out_scenes
from diffvis_widget.scenes.render import paint, sketch_of
from diffvis_widget.scenes.world import COLOURS, SHAPES, Spec, Thing, caption
from diffvis_widget.tracer import fingerprint
from diffvis_widget.tracer import trace as run
from diffvis_widget.traces import Trace
from diffvis_widget.traces.resize import resize
from diffvis_widget.traces.types import Floats, Keep

from . import report
from .ground_truth import Rendering
from .json_lines import FOLDER, Line, append, resume
from .measures import STEPS
from .metrics import localization_scores

SCENES, PAIRS = 200, 60
FIRST_PAIR = 200  # those of 100 to 149 chose how colours compete, and one head
PROMPT, CONCEPT = "word of the prompt", "word outside the prompt"
KINDS = {"attention": "probability", "refined": "refined"}
LAYER, HEAD = "up_blocks.2.attentions.1.transformer_blocks.0.attn2", 3  # chosen on the pairs 100 to 121
LATE = slice(STEPS // 2, None)  # the levels from timestep 499 on


def like_things(number: int) -> Scene:
    """Render two things of one shape in two colours.

    Args:
        number: The same number gives the same scene.

    Returns:
        The scene; its caption names both colours.
    """
    rng = np.random.default_rng([number, 26])
    shape = str(rng.choice(SHAPES))
    first, second = (str(colour) for colour in rng.choice(list(COLOURS), 2, replace=False))
    relation = str(rng.choice(["above", "below", "left", "right"]))
    return paint(sketch_of(Spec((Thing(shape, first), Thing(shape, second)), relation=relation), rng))


def traced(pipe: Any, scene: Scene, number: int, keep: Keep | None = None) -> tuple[Trace, Rendering, dict[str, int]]:
    """Trace a rendering by its caption, with the words of the caption as concepts too.

    Args:
        pipe: The scenes pipeline.
        scene: The scene.
        number: Seed of the noise.
        keep: Which attention maps the trace stores.

    Returns:
        The trace, the rendering, and the index of each concept in `trace.words`.
    """
    rendering = Rendering(pipe, scene, number)
    regions = {scene.caption[mention.start : mention.end] for mention in scene.mentions}
    trace = run(pipe, scene.caption, concepts=sorted(regions), keep=keep, **rendering.arguments(pipe, STEPS))
    indices = {word.text: index for index, word in enumerate(trace.words) if word.kind == "concept"}
    return trace, rendering, indices


def measure(pipe: Any, scene: Scene, number: int) -> Line:
    """Measure pointing, IoU and average precision of the mean of all levels' maps.

    Args:
        pipe: The scenes pipeline.
        scene: The scene.
        number: Seed of the noise.

    Returns:
        By role, the number of words and, by method, three means over them.
    """
    trace, rendering, concepts = traced(pipe, scene, number)
    regions = rendering.regions(trace)
    of_concepts = {
        concepts[text]: np.any([region.mask for region in regions if trace.words[region.word].text == text], axis=0)
        for text in {trace.words[region.word].text for region in regions}
    }
    scores = _Scores()
    for region in regions:
        index = concepts[trace.words[region.word].text]
        scores.add(region.role, PROMPT, trace, region.word, region.mask)
        scores.add(region.role, CONCEPT, trace, index, of_concepts[index])
    return {"roles": scores.means()}


def measure_unnamed(pipe: Any, scene: Scene, number: int) -> Line:
    """Measure the maps of words for a thing that the prompt does not name.

    Args:
        pipe: The scenes pipeline.
        scene: The scene.
        number: Seed of the noise, and chooses the thing.

    Returns:
        By role, the number of words and, by method, three means over them: concepts in a run whose prompt names the
        other thing and the setting, and the same words in a run whose prompt is the whole caption. Empty for scenes of
        one thing.
    """
    spec = scene.sketch.spec
    if len(spec.things) < 2:
        return {"unnamed": {}}
    thing = number % 2
    prompt = caption(Spec((spec.things[1 - thing],), setting=spec.setting), np.random.default_rng([number, 5])).text
    rendering = Rendering(pipe, scene, number)
    whole = run(pipe, scene.caption, **rendering.arguments(pipe, STEPS))
    regions = {whole.words[region.word].text: region for region in rendering.regions(whole) if region.thing == thing}
    regions = {text: region for text, region in regions.items() if text not in prompt.split()}
    if not regions:
        return {"unnamed": {}}
    trace = run(pipe, prompt, concepts=sorted(regions), **rendering.arguments(pipe, STEPS))
    indices = {word.text: index for index, word in enumerate(trace.words) if word.kind == "concept"}
    scores = _Scores()
    for text, region in regions.items():
        scores.add(region.role, PROMPT, whole, region.word, region.mask)
        scores.add(region.role, CONCEPT, trace, indices[text], region.mask)
    return {"unnamed": scores.means()}


class _Scores:
    """Pointing, IoU and average precision of maps, by role and method."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, list[NDArray[np.float64]]]] = defaultdict(lambda: defaultdict(list))

    def add(self, role: str, source: str, trace: Trace, word: int, mask: NDArray[np.bool_]) -> None:
        """Add both kinds of map of a word.

        Args:
            role: Role of the word.
            source: Where the word stands.
            trace: The run.
            word: Index in `trace.words`.
            mask: bool (H, W), the pixels that the word names.
        """
        for name, kind in KINDS.items():
            scores = localization_scores(trace.heat_map(word, kind=cast(Any, kind)), mask)
            self._values[role][f"{source}, {name}"].append(np.array(scores))

    def means(self) -> Line:
        """Average over the words.

        Returns:
            By role, the number of words and, by method, three means over them.
        """
        return {
            role: {
                "words": len(next(iter(methods.values()))),
                "values": {method: np.round(np.mean(parts, axis=0), 4).tolist() for method, parts in methods.items()},
            }
            for role, methods in self._values.items()
        }


def measure_leakage(pipe: Any, number: int) -> Line:
    """Measure how much of a colour's map lies on the like thing of the other colour.

    Args:
        pipe: The scenes pipeline.
        number: See `like_things`.

    Returns:
        By method, the mean of a colour's map on the other thing over that on its own: one value for each colour.
    """
    trace, rendering, concepts = traced(pipe, like_things(number), number)
    colours = [region for region in rendering.regions(trace) if region.role == "colour"]
    if len(colours) < 2:
        return {"leakage": {}}
    leakage: dict[str, list[float]] = defaultdict(list)
    sources = {
        PROMPT: [region.word for region in colours],
        CONCEPT: [concepts[trace.words[region.word].text] for region in colours],
    }
    for source, (first, second) in sources.items():
        for name, kind in KINDS.items():
            for named, other, index in ((colours[0], colours[1], first), (colours[1], colours[0], second)):
                for competing in (False, True):
                    among = [first, second] if competing else None
                    heat = trace.heat_map(index, kind=cast(Any, kind), among=among)
                    ratio = _mean_in(heat, other.mask) / max(_mean_in(heat, named.mask), 1e-12)
                    leakage[f"{source}, {name}{', among both' if competing else ''}"].append(round(ratio, 4))
    return {"leakage": dict(leakage)}


def measure_head(pipe: Any, number: int) -> Line:
    """Measure how much of a colour's map lies on the like thing of the other colour, for one head and the lower levels.

    Args:
        pipe: The scenes pipeline.
        number: See `like_things`.

    Returns:
        By method and colour: the leakage as `measure_leakage` has it, pointing, IoU and average precision on its own
        thing.
    """
    trace, rendering, concepts = traced(pipe, like_things(number), number, keep="heads")
    colours = [region for region in rendering.regions(trace) if region.role == "colour"]
    values: dict[str, list[list[float]]] = defaultdict(list)
    for named, other in (colours, colours[::-1]) if len(colours) == 2 else ():
        indices = {PROMPT: named.word, CONCEPT: concepts[trace.words[named.word].text]}
        for source, index in indices.items():
            maps = {
                "attention": trace.heat_map(index, step=LATE),
                "one head": trace.heat_map(index, step=LATE, layer=LAYER, head=HEAD),
                "one head, all levels": trace.heat_map(index, layer=LAYER, head=HEAD),
            }
            for name, heat in maps.items():
                ratio = _mean_in(heat, other.mask) / max(_mean_in(heat, named.mask), 1e-12)
                scores = [ratio, *localization_scores(heat, named.mask)]
                values[f"{source}, {name}"].append([round(float(score), 4) for score in scores])
    return {"heads": dict(values)}


def _mean_in(heat: Floats, mask: NDArray[np.bool_]) -> float:
    return float(resize(heat, (int(mask.shape[0]), int(mask.shape[1])))[mask].mean())


def main() -> None:
    """Measure whatever is missing, print the tables and write README.md."""
    parser = argparse.ArgumentParser(
        prog="python -m diffvis_widget.explain.evaluation.concept_maps", description=__doc__
    )
    parser.add_argument("--scenes", type=int, default=SCENES, help=f"number of scenes ({SCENES})", metavar="N")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"scenes of two like things ({PAIRS})", metavar="N")
    parser.add_argument("--heads", type=int, default=PAIRS, help=f"of them, for one head ({PAIRS})", metavar="N")
    parser.add_argument("--unnamed", type=int, default=SCENES, help=f"for unnamed things ({SCENES})", metavar="N")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"folder of the results ({FOLDER})")
    args = parser.parse_args()
    pipe = load()
    path, model = args.folder / "concept_maps.jsonl", fingerprint(cast(Any, pipe).unet)
    done = {line["scene"] for line in resume(path, model)}
    for number in range(FIRST_PAIR, FIRST_PAIR + args.pairs):
        if (name := f"pair {number}") not in done:
            append(path, {"scene": name, "model": model, **measure_leakage(pipe, number)})
            print(f"concept maps: {name}", flush=True)
    for number in range(args.heads):
        if (name := f"head {number}") not in done:
            append(path, {"scene": name, "model": model, **measure_head(pipe, number)})
            print(f"concept maps: {name}", flush=True)
    for number, scene in enumerate(held_out_scenes(args.scenes)):
        if number not in done:
            began = time.monotonic()
            append(path, {"scene": number, "model": model, **measure(pipe, scene, number)})
            print(f"concept maps: scene {number + 1} of {args.scenes}, {time.monotonic() - began:.1f} s", flush=True)
    for number, scene in enumerate(held_out_scenes(args.unnamed)):
        if (name := f"unnamed {number}") not in done:
            append(path, {"scene": name, "model": model, **measure_unnamed(pipe, scene, number)})
            print(f"concept maps: {name}", flush=True)
    report.write(args.folder)


if __name__ == "__main__":
    main()
