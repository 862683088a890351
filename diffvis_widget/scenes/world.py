"""The scenes world: what can be in a picture, how it is said, and which combinations are kept for tests.

A `Spec` is the meaning of a scene; `caption` says it in words and remembers where each word's thing is, so that the
renderer can give a ground-truth mask for every word that has a place.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "sun", "moon", "tree", "house", "boat", "fish",
          "flower", "balloon")  # fmt: skip
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 52),
    "orange": (245, 134, 26),
    "yellow": (248, 210, 45),
    "green": (44, 160, 72),
    "blue": (44, 104, 222),
    "purple": (126, 58, 190),
    "pink": (244, 138, 182),
    "brown": (120, 74, 44),
}
SIZES = ("small", "large")  # no word: medium
TEXTURES = ("striped", "dotted")  # no word: plain
# What can be said of one thing, with its words.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "texture": TEXTURES,
    "size": SIZES,
}
# Each setting with the phrases that say it; the last word of a phrase is the one that carries the setting.
SETTINGS: dict[str, tuple[str, ...]] = {
    "day": ("by day", "in the day"),
    "night": ("at night", "in the night"),
    "sea": ("at sea", "in the sea"),
    "grass": ("on grass", "on the grass"),
    "sand": ("on sand", "on the sand"),
    "snow": ("in snow", "in the snow"),
    "sunset": ("at sunset", "in the sunset"),
}  # no word: plain light paper
RELATIONS: dict[str, tuple[str, ...]] = {
    "above": ("above", "over"),
    "below": ("below", "under"),
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "and": ("and",),
}
PLACES: dict[str, tuple[str, ...]] = {
    "left": ("on the left",),
    "right": ("on the right",),
    "top": ("at the top",),
    "bottom": ("at the bottom",),
    "middle": ("in the middle", "in the center"),
}
_PLAIN_WORDS = ("a", "an", "plain")


@dataclass(frozen=True)
class Thing:
    """One object: a shape with its attributes; None is an attribute left unsaid (medium, plain, any colour)."""

    shape: str
    colour: str | None
    size: str | None = None
    texture: str | None = None


@dataclass(frozen=True)
class Spec:
    """The meaning of a scene: one thing with an optional place, or two things with a relation, in a setting."""

    things: tuple[Thing, ...]
    relation: str | None = None
    place: str | None = None
    setting: str | None = None

    @property
    def held_out(self) -> bool:
        """True for the tenth of all combinations that training never draws."""
        return zlib.crc32(repr(self).encode()) % 10 == 0


@dataclass(frozen=True)
class Mention:
    """A caption word that has a place in the picture: its character span, its role and the thing it speaks of."""

    start: int
    end: int
    role: str  # "object" | "colour" | "size" | "texture" | "setting"
    thing: int | None  # index into Spec.things; None for the setting


@dataclass(frozen=True)
class Caption:
    """A caption and the spans of its placeable words."""

    text: str
    mentions: tuple[Mention, ...]


def _thing(rng: np.random.Generator) -> Thing:
    return Thing(
        shape=str(rng.choice(SHAPES)),
        colour=str(rng.choice(list(COLOURS))) if rng.random() < 0.95 else None,
        size=str(rng.choice(SIZES)) if rng.random() < 0.35 else None,
        texture=str(rng.choice(TEXTURES)) if rng.random() < 0.4 else None,
    )


def sample_spec(rng: np.random.Generator, held_out: bool | None = None) -> Spec:
    """Draw a scene's meaning.

    held_out: True for combinations never used in training, False for training's own, None for any.
    """
    while True:
        setting = str(rng.choice(list(SETTINGS))) if rng.random() < 0.65 else None
        if rng.random() < 0.4:
            place = str(rng.choice(list(PLACES))) if rng.random() < 0.5 else None
            spec = Spec((_thing(rng),), place=place, setting=setting)
        else:
            relation = "and" if rng.random() < 0.2 else str(rng.choice(["above", "below", "left", "right"]))
            first, second = _thing(rng), _thing(rng)
            if (first.shape, first.colour) == (second.shape, second.colour):
                continue
            spec = Spec((first, second), relation=relation, setting=setting)
        if held_out is None or spec.held_out == held_out:
            return spec


def caption(spec: Spec, rng: np.random.Generator) -> Caption:
    """Say a scene in words: "a large red fish above a blue square at sea"."""
    text = ""
    mentions: list[Mention] = []

    def say(phrase: str, role: str | None = None, thing: int | None = None) -> None:
        nonlocal text
        text += " " if text else ""
        if role is not None:
            word_start = len(text) + len(phrase) - len(phrase.split()[-1])
            mentions.append(Mention(word_start, len(text) + len(phrase), role, thing))
        text += phrase

    for index, thing in enumerate(spec.things):
        if index == 1:
            assert spec.relation is not None
            say(str(rng.choice(RELATIONS[spec.relation])))
        words = [(thing.size, "size"), (thing.texture, "texture"), (thing.colour, "colour"), (thing.shape, "object")]
        said = [(word, role) for word, role in words if word is not None]
        say("an" if said[0][0][0] in "aeiou" else "a")
        for word, role in said:
            say(word, role, index)
    if spec.place is not None:
        say(str(rng.choice(PLACES[spec.place])))
    if spec.setting is not None:
        say(str(rng.choice(SETTINGS[spec.setting])), "setting")
    return Caption(text, tuple(mentions))


def vocabulary() -> frozenset[str]:
    """Every word that a training caption can hold, lower case."""
    phrases = [*SHAPES, *COLOURS, *SIZES, *TEXTURES, *_PLAIN_WORDS]
    for table in (SETTINGS, RELATIONS, PLACES):
        phrases += [phrase for options in table.values() for phrase in options]
    return frozenset(word for phrase in phrases for word in phrase.split())


def unknown_words(prompt: str) -> list[str]:
    """The words of a prompt that the scenes model never saw, lower case, in order, each once."""
    known = vocabulary()
    words = re.findall(r"[^\W_]+", prompt.lower())
    return list(dict.fromkeys(word for word in words if word not in known))
