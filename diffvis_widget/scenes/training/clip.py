"""Training of the concept model: an open_clip CLIP for the world's words and for intermediate predictions.

Which phrase is true of which scene is known exactly, so each image is scored against each phrase of a batch with the
sigmoid loss of SigLIP (Zhai et al. 2023, arXiv 2303.15343): two images of a red circle both match "red".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from open_clip import CLIP
from torch import Tensor
from transformers import CLIPTokenizer

from diffvis_widget.scenes.render import Sketch, sketch
from diffvis_widget.scenes.world import ATTRIBUTES, SETTINGS

from .dataset import Dataset
from .loop import Plan, device_of, fit
from .stages import tokenize

_TEMPLATES = ("{}", "{}", "a {}", "a picture of {}", "a scene with a {}")
_NONSENSE = 24


class Phrase(dict[str, str]):
    """A phrase: attributes of one object ({"colour": "red", "shape": "circle"}), or a setting."""

    def text(self) -> str:
        """The phrase in English order: size, texture, colour, shape.

        Returns:
            Its text.
        """
        return " ".join(self[key] for key in ("size", "texture", "colour", "shape", "setting") if key in self)

    def holds(self, scene: Sketch) -> bool:
        """Whether the phrase is true of a scene.

        Args:
            scene: The scene.

        Returns:
            True where it is.
        """
        if "setting" in self:
            return scene.spec.setting == self["setting"]
        return any(all(getattr(thing, key) == value for key, value in self.items()) for thing in scene.things)


def _words() -> list[Phrase]:
    """Each single word as a phrase."""
    words = [Phrase({key: value}) for key, values in ATTRIBUTES.items() for value in values]
    return words + [Phrase(setting=value) for value in SETTINGS]


def _phrase_of(scene: Sketch, rng: np.random.Generator) -> Phrase:
    """A phrase of two or more words about one object of a scene; attributes are left out at random."""
    thing = scene.things[int(rng.integers(len(scene.things)))]
    stated = {key: getattr(thing, key) for key in ATTRIBUTES if getattr(thing, key) is not None}
    chosen = {key: value for key, value in stated.items() if key == "shape" or rng.random() < 0.6}
    return Phrase(chosen)


def _imitate_predictions(x: Tensor, generator: torch.Generator) -> Tensor:
    """Blurs and noises a batch to look like predictions at any noise level, from nearly the mean to clean."""
    for part in range(4):
        chosen = torch.arange(part, len(x), 4)
        if part > 0:
            # Reducing and enlarging is a blur whose cost does not grow with its width.
            side = int(torch.randint(5, 64, (1,), generator=generator))
            small = F.interpolate(x[chosen], size=(side, side), mode="area")
            x[chosen] = F.interpolate(small, size=x.shape[-2:], mode="bicubic")
            strength = torch.rand(len(chosen), 1, 1, 1, generator=generator) ** 2 * 0.5
            coarse = torch.randn(len(chosen), 3, 24, 24, generator=generator)
            fine = torch.randn(x[chosen].shape, generator=generator)
            noise = 0.6 * F.interpolate(coarse, size=x.shape[-2:], mode="bilinear") + 0.6 * fine
            x[chosen] = x[chosen] + strength * noise
    return x.clamp(-1, 1)


def _nonsense(tokenizer: CLIPTokenizer, generator: torch.Generator) -> Tensor:
    """Token ids of random pieces of the vocabulary, which are true of no image."""
    ids = tokenize(tokenizer, [""]).repeat(_NONSENSE, 1)
    for row in ids:
        length = int(torch.randint(1, 4, (1,), generator=generator))
        row[1 : 1 + length] = torch.randint(len(tokenizer) - 2, (length,), generator=generator)
    return ids


def _band_loss(nonsense: Tensor, words: Tensor, false: Tensor) -> Tensor:
    """The difference between the logits of nonsense (n, k) and of false words, in mean and spread per image.

    With it the null band of unrelated words covers the scores of absent words.
    """
    count = false.sum(1)
    mean = (words * false).sum(1) / count
    spread = (((words - mean[:, None]) ** 2 * false).sum(1) / count).sqrt()
    return F.mse_loss(nonsense.mean(1), mean) + F.mse_loss(nonsense.std(1), spread)


def train_clip(model: CLIP, tokenizer: CLIPTokenizer, data: Dataset, folder: Path, steps: int, batch: int = 64) -> CLIP:
    """Train on single words, phrases and whole captions at once.

    Args:
        model: The network.
        tokenizer: Its tokenizer.
        data: The training scenes.
        folder: Checkpoints and log.
        steps: Number of steps.
        batch: Images per step.

    Returns:
        The moving average of the network.
    """
    scenes = [sketch(i, held_out=False) for i in range(len(data.captions))]
    device = device_of(model)
    words = _words()
    sizes = [*map(len, ATTRIBUTES.values()), len(SETTINGS)]

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        rng = np.random.default_rng([step, 7])
        index = torch.randint(len(scenes), (batch,), generator=generator).tolist()
        chosen = [scenes[i] for i in index]
        phrases = words + [_phrase_of(scene, rng) for scene in chosen]
        truth = np.array([[float(phrase.holds(scene)) for phrase in phrases] for scene in chosen])
        captions = [data.captions[i] for i in index]
        same = np.array([[float(a == b) for b in captions] for a in captions])
        target = torch.from_numpy(np.concatenate([truth, same], axis=1)).float().to(device)
        texts = [str(rng.choice(_TEMPLATES)).format(phrase.text()) for phrase in phrases] + captions

        x = torch.from_numpy(data.images[np.array(index)]).permute(0, 3, 1, 2).float() / 127.5 - 1
        image = F.normalize(model.encode_image(_imitate_predictions(x, generator).to(device)), dim=-1)
        ids = torch.cat([tokenize(tokenizer, texts), _nonsense(tokenizer, generator)])
        text = F.normalize(model.encode_text(ids.to(device)), dim=-1)
        assert model.logit_bias is not None
        logits = model.logit_scale.exp() * image @ text.T + model.logit_bias
        n = len(words)
        meaningful, nonsense = logits[:, :-_NONSENSE], logits[:, -_NONSENSE:]
        loss = F.binary_cross_entropy_with_logits(meaningful, target, reduction="none")
        # Words, phrases and captions have equal weight, however many columns each has.
        total = sum((group.mean() for group in loss.split([n, batch, batch], dim=1)), torch.zeros((), device=device))
        total = total + 0.1 * _band_loss(nonsense, logits[:, :n].detach(), target[:, :n] == 0)
        # Each word against the others of its kind, as in zero-shot classification.
        for kind, truths in zip(logits[:, :n].split(sizes, 1), target[:, :n].split(sizes, 1), strict=True):
            stated = truths.sum(1) > 0
            share = truths[stated] / truths[stated].sum(1, keepdim=True)
            total = total + 0.25 * F.cross_entropy(kind[stated], share)
        return total

    return fit("clip", model, loss_of, Plan(steps, 2e-3), folder, weight_decay=0.02)
