"""The networks of the scenes model as modules whose inputs and outputs are those of the page's graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

BATCH = 2
"""Rows of the example inputs: the conditional and the unconditional branch."""


class TextEncoder(nn.Module):
    """Token ids to text embeddings.

    Args:
        pipe: The scenes pipeline.
    """

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.network = pipe.text_encoder

    def forward(self, ids: Tensor) -> Tensor:
        """Encode prompts.

        Args:
            ids: int64 (n, 32).

        Returns:
            float32 (n, 32, 128).
        """
        return self.network(ids, return_dict=False)[0]


class Denoiser(nn.Module):
    """The U-Net with the attention probabilities that heat maps are made of as further outputs.

    Args:
        pipe: The scenes pipeline; its U-Net keeps the attention processors that are set here.

    Attributes:
        layers: Dotted paths of the cross-attention layers, in the order of the outputs.
        refining: Dotted path of the self-attention layer that refines the maps: the last one on the finest grid.
    """

    layers: list[str]
    refining: str

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.network = pipe.unet
        self.layers = []
        self.refining = ""
        self._collected: list[tuple[str, Tensor]] = []
        self._refining: Tensor | None = None
        self._text: tuple[Tensor, ...] = ()
        self._shares: list[Tensor] = []
        names = [name.removesuffix(".processor") for name in self.network.attn_processors]
        self.network.set_attn_processor({f"{name}.processor": _Processor(self, name) for name in names})

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        mask: Tensor,
        factors: Tensor,
        concepts: Tensor,
        members: Tensor,
    ) -> tuple[Tensor, ...]:
        """Evaluate the U-Net.

        Args:
            latents: float32 (n, 4, 12, 12).
            timestep: float32 (1,).
            text: float32 (n, 32, 128).
            mask: float32 (n, 32), added to the attention scores of each text token: 0, or -inf for one left out.
            factors: float32 (n, 32), multiplies the values of each text token.
            concepts: float32 (k, m, 128), text embeddings of a prompt for each word outside the prompt; m is 32, or 2
                for a word that stands for none. They change no other output.
            members: float32 (k, m), 1 for the tokens of that word in its prompt, else 0.

        Returns:
            The v-prediction (n, 4, 12, 12), the mean over heads of the self-attention (n, positions, positions) that
            refines the maps, the probabilities (n, heads, positions, 32) of each layer, and then of each layer those
            (k, heads, positions) of the words outside the prompt in the last row.
        """
        self._collected, self._shares, self._refining = [], [], None
        self._text = (mask, factors, concepts, members.log(), (1 - members).log())
        prediction = self.network(latents, timestep, text, return_dict=False)[0]
        self.layers = [name for name, _ in self._collected]
        assert self._refining is not None
        return (prediction, self._refining, *(maps for _, maps in self._collected), *self._shares)

    def attend(self, name: str, attention: Any, image: Tensor, text: Tensor | None) -> Tensor:
        """Compute one attention layer without a fused kernel.

        Args:
            name: Dotted path of the layer.
            attention: The layer.
            image: (n, positions, width).
            text: (n, 32, 128); None for self-attention.

        Returns:
            (n, positions, width).
        """
        source = image if text is None else text

        def heads(values: Tensor) -> Tensor:
            return values.reshape(values.shape[0], values.shape[1], attention.heads, -1).transpose(1, 2)

        query, key = heads(attention.to_q(image)), heads(attention.to_k(source))
        value = heads(attention.to_v(source))
        scores = torch.matmul(query, key.transpose(-1, -2)) * query.shape[-1] ** -0.5
        if text is not None:
            mask, factors, concepts, *masks = self._text
            keys = heads(attention.to_k(concepts))
            self._shares.append(_concept_shares(query[-1:], keys, masks[0], masks[1]))
            scores = scores + mask[:, None, None, :]
            value = value * factors[:, None, :, None]
        probabilities = scores.softmax(dim=-1)
        if text is not None:
            self._collected.append((name, probabilities))
        elif self._refining is None or probabilities.shape[2] >= self._refining.shape[1]:
            self.refining, self._refining = name, probabilities.mean(dim=1)  # as tracer/refinement.py chooses it
        output = torch.matmul(probabilities, value).transpose(1, 2)
        return attention.to_out[0](output.reshape(image.shape[0], image.shape[1], -1))


def _concept_shares(query: Tensor, keys: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """The probability of each word outside the prompt, as tracer/concept_reader.py defines it.

    Args:
        query: (1, heads, positions, width).
        keys: (k, heads, m, width), of a prompt for each word.
        inside: (k, m), 0 for the tokens of the word, -inf for the others.
        outside: (k, m), the other way round.

    Returns:
        (k, heads, positions): of a softmax over the word's own prompt and the tokens of the other words.
    """
    scores = torch.matmul(query, keys.transpose(-1, -2)) * query.shape[-1] ** -0.5
    words = torch.logsumexp(scores + inside[:, None, None, :], dim=-1)
    rest = torch.logsumexp(scores + outside[:, None, None, :], dim=-1)
    # One sum over all words, this one among them, serves each word.
    everyone = torch.logsumexp(words, dim=0, keepdim=True).expand_as(rest)
    return (words - torch.logsumexp(torch.stack([rest, everyone]), dim=0)).exp()


class _Processor:
    """The attention processor of one layer, as diffusers calls it.

    Args:
        denoiser: The module that collects the probabilities.
        name: Dotted path of the layer.
    """

    def __init__(self, denoiser: Denoiser, name: str) -> None:
        self._denoiser, self._name = denoiser, name

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Any:
        return self._denoiser.attend(self._name, attn, hidden_states, encoder_hidden_states)


class Decoder(nn.Module):
    """Latents to pixels, in the order of operations of the pipeline.

    Args:
        pipe: The scenes pipeline.
    """

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.network = pipe.vae
        self.scale = float(pipe.vae.config.scaling_factor)

    def forward(self, latents: Tensor) -> Tensor:
        """Decode latents.

        Args:
            latents: float32 (n, 4, 12, 12).

        Returns:
            uint8 (n, 96, 96, 3).
        """
        decoded = self.network.decode(latents / self.scale, return_dict=False)[0]
        images = (decoded * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
        return torch.round(images * 255).to(torch.uint8)


class ImageMeter(nn.Module):
    """Images to the unit vectors of the concept model.

    Args:
        clip: The open_clip model of the concept meter.
    """

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.network = clip

    def forward(self, images: Tensor) -> Tensor:
        """Encode images of the model's own size.

        Args:
            images: uint8 (n, 96, 96, 3).

        Returns:
            float32 (n, 96), of length 1.
        """
        features = self.network.encode_image(images.permute(0, 3, 1, 2).float() / 127.5 - 1)
        return features / features.norm(dim=-1, keepdim=True)


class TextMeter(nn.Module):
    """Texts to the unit vectors of the concept model.

    Args:
        clip: The open_clip model of the concept meter.
    """

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.network = clip

    def forward(self, ids: Tensor) -> Tensor:
        """Encode texts.

        Args:
            ids: int64 (n, 32).

        Returns:
            float32 (n, 96), of length 1.
        """
        features = self.network.encode_text(ids)
        return features / features.norm(dim=-1, keepdim=True)


def page_modules() -> dict[str, nn.Module]:
    """Build the networks that a page runs.

    Returns:
        The modules by the names of their graphs, on the CPU, in evaluation mode.

    Example:
        >>> list(page_modules())
        ['text_encoder', 'unet', 'decoder', 'image_meter', 'text_meter']
    """
    from diffvis_widget.concepts.meter import ConceptMeter
    from diffvis_widget.scenes import load

    pipe, clip = load(), ConceptMeter().network
    pipe.unet.to(memory_format=torch.contiguous_format)
    modules: dict[str, nn.Module] = {
        "text_encoder": TextEncoder(pipe),
        "unet": Denoiser(pipe),
        "decoder": Decoder(pipe),
        "image_meter": ImageMeter(clip),
        "text_meter": TextMeter(clip),
    }
    return {name: module.eval() for name, module in modules.items()}


def example_inputs() -> Mapping[str, dict[str, Tensor]]:
    """Make example inputs of each network.

    Returns:
        For each graph its inputs by name.
    """
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 7680, (BATCH, 32), generator=generator)
    ids[:, 20:] = 7681
    mask = torch.zeros(BATCH, 32)
    mask[0, 3] = -torch.inf
    factors = torch.ones(BATCH, 32)
    factors[0, 2] = 1.5
    members = torch.zeros(BATCH, 32)
    members[:, 2] = members[1, 3] = 1
    return {
        "text_encoder": {"ids": ids},
        "unet": {
            "latents": torch.randn(BATCH, 4, 12, 12, generator=generator),
            "timestep": torch.tensor([421.0]),
            "text": torch.randn(BATCH, 32, 128, generator=generator),
            "mask": mask,
            "factors": factors,
            "concepts": torch.randn(BATCH, 32, 128, generator=generator),
            "members": members,
        },
        "decoder": {"latents": torch.randn(BATCH, 4, 12, 12, generator=generator)},
        "image_meter": {"images": torch.randint(0, 256, (BATCH, 96, 96, 3), generator=generator, dtype=torch.uint8)},
        "text_meter": {"ids": ids},
    }
