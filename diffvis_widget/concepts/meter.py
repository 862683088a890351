"""Measures images against words with a CLIP model: cosines, null band, shares."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffvis_widget._compat.torch_defaults import build_with_weights, thread_local_defaults
from diffvis_widget.arguments import instance, items, shorten, text
from diffvis_widget.shipped import calibration_file, clip_folder

from .calibration import Calibration
from .image_encoder import ImagePreparation, folded

if TYPE_CHECKING:
    from torch import Tensor

_BATCH = 32
_ATTEMPTS, _ATTEMPT_SECONDS = 50, 0.1
MAX_CONCEPTS = 256
# Words that no image of a scene shows: their scores are those of any unrelated word.
UNRELATED = (
    "economy", "grammar", "yesterday", "opinion", "justice", "salary", "theory", "password", "inflation", "verb",
    "promise", "policy", "history", "melody", "election", "logic", "invoice", "rumour", "senator", "syntax",
    "discount", "calendar", "tenant", "biology", "dialect", "mortgage", "courage", "tuesday", "debate", "software",
    "tradition", "hypothesis", "committee", "insurance", "nostalgia", "rhythm", "permission", "chapter", "voltage",
    "advice",
)  # fmt: skip


class ConceptMeter:
    """Scores images against words with an open_clip model.

    `ConceptMeter()` is the built-in scenes CLIP, which is trained on unfinished images of the scenes world too.
    `ConceptMeter("ViT-B-32", pretrained="laion2b_s34b_b79k")` is any model that open_clip can create.

    Args:
        name: an open_clip model name, or "local-dir:..." / "hf-hub:..."; None for the scenes CLIP.
        pretrained: open_clip's pretrained tag or a weights file; needed with a plain model name.
        device: where it runs, as torch names it: "cpu", "cuda:0".
        template: how a concept is put to the text encoder; must contain "{}".

    Attributes:
        label: its name for readers.
        calibration: from which score on a word is present at each noise level; None for a meter that is not calibrated.

    Raises:
        TypeError: an argument is no text.
        ValueError: an unknown model name, a missing or unknown pretrained tag, a template without exactly one "{}", an
            unknown device.
        OSError: the weights could not be loaded (no network, no file).

    Example:
        >>> import numpy as np
        >>> import diffvis_widget as dv
        >>> meter = dv.ConceptMeter()
        >>> cosine, null_band = meter.scores(np.zeros((2, 96, 96, 3), np.uint8), ["circle", "red"])
        >>> cosine.shape, null_band.shape
        ((2, 2), (2, 2))
    """

    label: str
    calibration: Calibration | None

    def __init__(
        self,
        name: str | None = None,
        pretrained: str | None = None,
        *,
        device: str = "cpu",
        template: str = "{}",
    ) -> None:
        import open_clip

        _check_device(device)
        for argument, value in (("name", name), ("pretrained", pretrained)):
            if value is not None:
                text(argument, value)

        if text("template", template).count("{}") != 1 or {"{", "}"} & set(template.replace("{}", "")):
            raise ValueError(
                f'template must have one placeholder for the concept: write "{{}}" where it goes, not {template!r}'
            )
        if name is None:
            if pretrained is not None:
                raise ValueError(f"pretrained={pretrained!r} needs a name too, such as ConceptMeter('ViT-B-32', ...)")
            source, self.label = f"local-dir:{clip_folder()}", "scenes CLIP"
        else:
            _check_name(name, pretrained)
            source, self.label = name, name if pretrained is None else f"{name} ({pretrained})"
        self.calibration = Calibration.read(path) if name is None and (path := calibration_file()).exists() else None
        try:
            model, preprocess = _load_scenes_clip() if name is None else _load_open_clip(source, pretrained, device)
        except (OSError, RuntimeError) as error:
            raise OSError(
                f"the weights of the concept model {self.label} could not be loaded ({error}). They are downloaded on "
                "first use: connect once, or pass pretrained= the path of a weights file"
            ) from error
        self._model: Any = model.eval().requires_grad_(False).to(device)
        self._prepare: Callable[[NDArray[np.uint8]], Tensor] = _prepared_by(_in_float32(preprocess))
        self._encode_image: Callable[[Tensor], Tensor] = self._model.encode_image
        if name is None:
            self._prepare, self._encode_image = _fast_image_encoder(self._model, preprocess)
        self._tokenizer = open_clip.get_tokenizer(source)
        self._device = device
        self._template = template
        self._texts: dict[str, NDArray[np.float32]] = {}
        self._lock = threading.Lock()

    @property
    def network(self) -> Any:
        """The open_clip model."""
        return self._model

    @property
    def logit_scale(self) -> float:
        """Factor that the model was trained to apply before its softmax."""
        return float(self._model.logit_scale.exp())

    def scores(
        self, frames: NDArray[np.uint8], concepts: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute the cosines of images and concepts, and the null band.

        Args:
            frames: uint8 (T, H, W, 3), sRGB.
            concepts: K words or phrases; K may be 0.

        Returns:
            cosine float32 (T, K) in -1..1, and null_band float32 (T, 2): for every image the 5th and 95th percentile
            of its cosines with a fixed list of unrelated words.

        Raises:
            TypeError: frames or concepts of another type.
            ValueError: frames of another shape or dtype; concepts that are no words, or more than 256.
        """
        _check_frames(frames)
        words = check_concepts(concepts)
        if len(frames) == 0 or not words:
            null_only = self._null(self.image_features(frames)) if len(frames) else np.zeros((0, 2), np.float32)
            return np.zeros((len(frames), len(words)), np.float32), null_only
        features = self.image_features(frames)
        cosine = features @ self._text_features(words).T
        return cosine.astype(np.float32), self._null(features)

    def _null(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.percentile(features @ self._text_features(UNRELATED).T, (5, 95), axis=1).T.astype(np.float32)

    def share(self, cosine: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn cosines into shares: a softmax over the concepts with the model's logit scale.

        Args:
            cosine: float32 (T, K).

        Returns:
            float32 (T, K); rows sum to 1.

        Raises:
            TypeError: cosine is no array.
            ValueError: it has another shape.
        """
        if instance("cosine", cosine, np.ndarray, "an array (T, K)").ndim != 2:
            raise ValueError(f"cosine must be an array (T, K), not one of shape {cosine.shape}")
        logits = cosine.astype(np.float64) * self.logit_scale
        weights = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)

    def image_features(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode images.

        Args:
            frames: uint8 (T, H, W, 3), sRGB; T of 1 or more.

        Returns:
            float32 (T, D); each row has length 1.

        Raises:
            TypeError: frames is no array.
            ValueError: it has another shape or dtype, or no image.
        """
        if not len(_check_frames(frames)):
            raise ValueError("frames must hold one image or more")
        import torch

        parts: list[NDArray[np.float32]] = []
        for start in range(0, len(frames), _BATCH):
            batch = self._prepare(frames[start : start + _BATCH])
            with self._lock, torch.no_grad():
                parts.append(_unit(self._encode_image(batch.to(self._device))))
        return np.concatenate(parts)

    def _text_features(self, words: Sequence[str]) -> NDArray[np.float32]:
        import torch

        # Each word by itself: the last bits of a word's features depend on the size of its batch, and a score must not
        # depend on which words were scored before.
        for word in dict.fromkeys(words):
            if word not in self._texts:
                tokens = self._tokenizer([self._template.format(word)])
                with self._lock, torch.no_grad():
                    self._texts[word] = _unit(self._model.encode_text(tokens.to(self._device)))[0]
        return np.stack([self._texts[word] for word in words])


_default_lock = threading.Lock()
_default: tuple[str, ConceptMeter] | None = None  # the folder of its weights, and the meter


def default_meter() -> ConceptMeter:
    """Return the process's meter with the scenes CLIP, built on first use, once for all threads.

    Returns:
        The same meter on every call, as long as the scenes model's weights lie in the same folder.
    """
    global _default
    folder = str(clip_folder())
    with _default_lock:
        if _default is None or _default[0] != folder:
            _default = folder, ConceptMeter()
        return _default[1]


def check_concepts(concepts: Sequence[str]) -> list[str]:
    """Clean a list of concepts: trimmed, duplicates removed.

    Args:
        concepts: Words or phrases.

    Returns:
        The clean list.

    Raises:
        TypeError: no list.
        ValueError: a bare string, an entry that is no text or empty, or more than 256 of them.
    """
    if isinstance(concepts, str):
        raise ValueError(f"concepts must be a list of words, got the string {concepts!r}: write [{concepts!r}]")
    for concept in items("concepts", concepts, 'a list of words, such as ["circle", "red"]'):
        if not isinstance(concept, str) or not concept.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"concepts must hold words, got {shorten(concept)}")
    clean = list(dict.fromkeys(concept.strip() for concept in concepts))
    if len(clean) > MAX_CONCEPTS:
        raise ValueError(f"concepts holds {len(clean)} words; at most {MAX_CONCEPTS} can be measured at once")
    return clean


def check_meter(meter: Any) -> None:
    """Refuse what cannot score concepts.

    Args:
        meter: A meter, or None.

    Raises:
        TypeError: If it is neither None nor has the attribute ``label`` and the methods ``scores`` and ``share``.
    """
    methods = [getattr(meter, name, None) for name in ("scores", "share")]
    if meter is not None and not (hasattr(meter, "label") and all(map(callable, methods))):
        raise TypeError(f"meter must be a ConceptMeter, such as dv.ConceptMeter(), not {shorten(meter)}")


def _check_frames(frames: Any) -> NDArray[np.uint8]:
    images = instance("frames", frames, np.ndarray, "an array uint8 (T, H, W, 3)")
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise ValueError(f"frames must be uint8 (T, H, W, 3), not {images.dtype} {images.shape}")
    return images


def _check_device(device: Any) -> None:
    import torch

    if isinstance(device, torch.device):
        return
    try:
        torch.device(text("device", device))
    except RuntimeError:
        raise ValueError(f'device must be one of torch, such as "cpu" or "cuda:0", not {shorten(device)}') from None


def _check_name(name: str, pretrained: str | None) -> None:
    import difflib

    import open_clip

    if ":" in name:
        return
    architectures = open_clip.list_models()
    if name not in architectures:
        near = difflib.get_close_matches(name, architectures, 3)
        hint = f"did you mean {' or '.join(near)}?" if near else "open_clip.list_models() lists them"
        raise ValueError(f"name={name!r} is no open_clip model; {hint}")
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained is None:
        raise ValueError(f"ConceptMeter({name!r}) needs pretrained=, one of {tags} or the path of a weights file")


def _load_scenes_clip() -> tuple[Any, Any]:
    """The scenes CLIP and its image preprocessing."""
    import json

    import open_clip
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from safetensors.torch import load_file

    folder = clip_folder()
    config = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
    length = config["model_cfg"]["text_cfg"]["context_length"]
    causal_mask = torch.full((length, length), -torch.inf, dtype=torch.float32).triu(1)
    weights = load_file(folder / "open_clip_model.safetensors")
    model = build_with_weights(lambda: open_clip.CLIP(**config["model_cfg"]), weights, {"attn_mask": causal_mask})
    return model, image_transform_v2(PreprocessCfg(**config["preprocess_cfg"]), is_train=False)


def _load_open_clip(source: str, pretrained: str | None, device: str) -> tuple[Any, Any]:
    """Any model that open_clip can create, and its image preprocessing."""
    import open_clip

    for _ in range(_ATTEMPTS):
        try:
            with thread_local_defaults():
                created: Any = open_clip.create_model_and_transforms(source, pretrained=pretrained, device=device)
        except NotImplementedError:  # weights that lost their values cannot be moved
            pass
        else:
            if not any(parameter.is_meta for parameter in created[0].parameters()):
                return created[0], created[2]
        time.sleep(_ATTEMPT_SECONDS)  # another thread is in accelerate's init_empty_weights, which affects all threads
    raise RuntimeError("another thread was building networks without values all the time: try again")


def _in_float32(preprocess: Any) -> Any:
    """open_clip's transforms, making float32 whatever torch's default dtype is while another thread loads a model."""
    import torch
    from torchvision import transforms

    def explicit(transform: Any) -> Any:
        if not isinstance(transform, transforms.ToTensor):
            return transform
        return transforms.Compose([transforms.PILToTensor(), transforms.ConvertImageDtype(torch.float32)])

    return transforms.Compose([explicit(transform) for transform in preprocess.transforms])


def _prepared_by(preprocess: Callable[[Any], Tensor]) -> Callable[[NDArray[np.uint8]], Tensor]:
    import torch
    from PIL import Image

    return lambda frames: torch.stack([preprocess(Image.fromarray(frame)) for frame in frames])


def _fast_image_encoder(model: Any, preprocess: Any) -> tuple[ImagePreparation, Any]:
    """The preparation and the network of the scenes CLIP, whose images are mostly of the size that it expects."""
    import json

    config = json.loads((clip_folder() / "open_clip_config.json").read_text(encoding="utf-8"))["preprocess_cfg"]
    prepared = ImagePreparation(_prepared_by(_in_float32(preprocess)), config["size"], config["mean"], config["std"])
    return prepared, folded(model.visual)


def _unit(features: Tensor) -> NDArray[np.float32]:
    features = features.float()
    return (features / features.norm(dim=-1, keepdim=True)).cpu().numpy()
