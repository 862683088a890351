"""The scenes world: what an image can show, how captions say it, and which combinations are held out for tests.

A `Spec` is the meaning of a scene. `caption` puts it into words and records which object each word refers to, so that
the renderer can give a ground-truth mask for each of these words. An object is called "thing" here.
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
# The attributes of an object, with their words.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "texture": TEXTURES,
    "size": SIZES,
}
# Each setting with its phrases; the last word of a phrase refers to the setting.
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
    """An object: a shape with its attributes.

    Attributes:
        shape: Its shape.
        colour: Its colour; None where the caption states none.
        size: None for medium.
        texture: None for plain.
    """

    shape: str
    colour: str | None
    size: str | None = None
    texture: str | None = None


@dataclass(frozen=True)
class Spec:
    """The meaning of a scene.

    Attributes:
        things: One or two objects.
        relation: The relation of two objects.
        place: Where a single object is; None for anywhere.
        setting: The background; None for plain paper.
    """

    things: tuple[Thing, ...]
    relation: str | None = None
    place: str | None = None
    setting: str | None = None

    @property
    def held_out(self) -> bool:
        """Whether this is one of the tenth of all combinations that training never draws.

        The split is made from the `repr`: renaming a class or a field here would change it.
        """
        return zlib.crc32(repr(self).encode()) % 10 == 0


@dataclass(frozen=True)
class Mention:
    """A caption word that refers to a part of the image.

    Attributes:
        start: First character of the word.
        end: One past its last character.
        role: "object", "colour", "size", "texture" or "setting".
        thing: Index into `Spec.things`; None for the setting.
    """

    start: int
    end: int
    role: str  # "object" | "colour" | "size" | "texture" | "setting"
    thing: int | None  # index into Spec.things; None for the setting


@dataclass(frozen=True)
class Caption:
    """A caption.

    Attributes:
        text: Its text.
        mentions: Its words that refer to a part of the image.
    """

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
    """Draw the meaning of a scene.

    Args:
        rng: Random generator.
        held_out: True for combinations never used in training, False for those of training, None for any.

    Returns:
        The meaning.
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
    """Put the meaning of a scene into words, such as "a large red fish above a blue square at sea".

    Args:
        spec: The meaning.
        rng: Random generator that chooses between synonyms.

    Returns:
        The caption.
    """
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
        stated = [(word, role) for word, role in words if word is not None]
        say("an" if stated[0][0][0] in "aeiou" else "a")
        for word, role in stated:
            say(word, role, index)
    if spec.place is not None:
        say(str(rng.choice(PLACES[spec.place])))
    if spec.setting is not None:
        say(str(rng.choice(SETTINGS[spec.setting])), "setting")
    return Caption(text, tuple(mentions))


def vocabulary() -> frozenset[str]:
    """All words that a training caption can contain.

    Returns:
        The words, in lower case.
    """
    phrases = [*SHAPES, *COLOURS, *SIZES, *TEXTURES, *_PLAIN_WORDS]
    for table in (SETTINGS, RELATIONS, PLACES):
        phrases += [phrase for options in table.values() for phrase in options]
    return frozenset(word for phrase in phrases for word in phrase.split())


def vocabulary_groups() -> dict[str, list[str]]:
    """What a prompt for the scenes model can say, in groups that the page suggests from.

    Returns:
        The words and phrases of "shapes", "colours", "looks", "settings" and "relations", one wording each; and in
        "others" the words of the vocabulary that none of these contains.

    Example:
        >>> vocabulary_groups()["settings"][:2]
        ['by day', 'at night']
    """
    groups = {
        "shapes": list(SHAPES),
        "colours": list(COLOURS),
        "looks": [*SIZES, *TEXTURES],
        "settings": [phrases[0] for phrases in SETTINGS.values()],
        "relations": [phrases[0] for table in (RELATIONS, PLACES) for phrases in table.values()],
    }
    suggested = {word for phrases in groups.values() for phrase in phrases for word in phrase.split()}
    return {**groups, "others": sorted(vocabulary() - suggested)}


def unknown_words(prompt: str) -> list[str]:
    """The words of a prompt that the scenes model never saw in training.

    Args:
        prompt: A prompt.

    Returns:
        The words in order, in lower case, each once.

    Example:
        >>> unknown_words("a red dog above a Castle")
        ['dog', 'castle']
    """
    trained = vocabulary()
    words = re.findall(r"[^\W_]+", prompt.lower())
    return list(dict.fromkeys(word for word in words if word not in trained))
