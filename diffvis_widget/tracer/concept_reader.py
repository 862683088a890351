"""Reads the attention to words outside the prompt, beside that to the prompt, without changing what is computed.

In cross-attention each concept has a prompt of its own, such as "a sky". The probability of a concept is what a softmax
over the keys of that prompt and of the other concepts gives to its tokens: image tokens attend as if that was the
prompt, and concepts compete. On the built-in model such maps follow things better than those of a softmax over the keys
of the real prompt and the concept (`benchmarks/explain`). Words that exclude each other compete once more for the
refined maps; see `exclusive_words`.

In joint attention the keys are those of a concept stream, whose tokens attend to the image and to all concepts, as in
ConceptAttention (arXiv 2502.04320). There the softmax is that of the layer, with the keys of all concepts added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffvis_widget._compat.float32_matmul import matmul_float32
from diffvis_widget.tracer.families import Family
from diffvis_widget.tracer.families.concept_streams import BlockCall

from .argument_names import arguments_by_name
from .attention_calls import AttentionCall
from .attention_probabilities import CrossCall
from .concept_encoding import Concepts
from .fault_guard import FaultGuard
from .log_sum_exp import without_autocast
from .module_hooks import hook_forward

_SCORES = 2**24  # float32 scores that are held at once: 64 MB
_LARGEST = torch.finfo(torch.float16).max
_LARGEST_EXPONENT = 60.0  # a sum of e^60 is a finite float32, and a share of it is 1


class ConceptReader:
    """Reads the attention to words outside the prompt in the conditional branch of one denoiser.

    Args:
        family: The denoiser's family.
        denoiser: The denoiser.
        modules: Its word-attention modules by dotted path.
        concepts: The words.
        heads: Whether heads are kept apart.
        guard: Takes the errors of the hooks; None: they end the call.

    Attributes:
        concepts: The words.
    """

    concepts: Concepts

    def __init__(
        self,
        family: Family,
        denoiser: nn.Module,
        modules: Mapping[str, nn.Module],
        concepts: Concepts,
        heads: bool,
        guard: FaultGuard | None = None,
    ) -> None:
        self.concepts = concepts
        self._family, self._denoiser, self._modules, self._heads, self._guard = family, denoiser, modules, heads, guard
        self._membership: Tensor | None = None
        self._calls: list[tuple[CrossCall, Tensor]] = []
        self._tokens: Tensor | None = None
        self._arguments: dict[str, Mapping[str, Any]] = {}
        self._removers: list[Callable[[], None]] = []
        self.begin()

    def attach(self) -> None:
        """Register hooks on the blocks whose arguments a concept stream needs; `detach` removes them."""
        if self._family.concept_stream is None:
            return
        for layer in self._modules:
            hook: Callable[..., Any] = self._entering(layer)
            hook = hook if self._guard is None else self._guard.hook(hook)
            self._removers.append(hook_forward(self._block(layer), hook, _leaving, with_kwargs=True))

    def detach(self) -> None:
        """Remove the hooks."""
        while self._removers:
            self._removers.pop()()

    def begin(self) -> None:
        """Begin an evaluation of the denoiser."""
        self._calls, self._tokens, self._arguments = [], None, {}
        self._probabilities: dict[str, Tensor] = {}
        self._outputs: dict[str, Tensor] = {}

    def _block(self, layer: str) -> nn.Module:
        return self._denoiser.get_submodule(layer.rpartition(".")[0])

    def _entering(self, layer: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._arguments[layer] = arguments_by_name(module.forward, args, kwargs)

        return hook

    def _memberships(self, device: torch.device) -> Tensor:
        if self._membership is None or self._membership.device != device:
            self._membership = self.concepts.membership(device)
        return self._membership

    # -- cross-attention ---------------------------------------------------------------------------------------------

    def read_cross(self, call: CrossCall) -> None:
        """Make the concepts' keys in a layer while its weights are at hand.

        Args:
            call: Queries and keys of the conditional branch.
        """
        assert self._family.concept_keys is not None
        with torch.no_grad():
            embeddings = torch.cat(list(self.concepts.rows)).to(call.query.device, call.query.dtype)
            self._calls.append((call, self._family.concept_keys(self._modules[call.layer], embeddings)))
            if call.is_large:  # the queries of all layers would fill the memory
                with without_autocast(call.query.device):
                    self.maps()

    # -- joint attention ---------------------------------------------------------------------------------------------

    def read_joint(
        self, layer: str, call: AttentionCall, output: Tensor | None, rows: slice, image: slice, normalizers: Tensor
    ) -> None:
        """Pass the concepts through a block, and compute their maps.

        Args:
            layer: Dotted path of the attention module.
            call: Its call of scaled_dot_product_attention.
            output: (batch, heads, tokens, width), its result; None where no output-space scores are wanted.
            rows: Rows of the conditional branch.
            image: Where the image tokens lie in the sequence.
            normalizers: float32 (images, heads, image tokens), the log-sum-exp of their scores with all keys.
        """
        stream, arguments = self._family.concept_stream, self._arguments.pop(layer, None)
        if stream is None or arguments is None:
            return
        images = rows.stop - rows.start
        keys, values = call.key[rows, :, image], call.value[rows, :, image]
        block = BlockCall(self._block(layer), self._modules[layer], arguments, rows, keys, values, call.factor)
        with torch.no_grad():
            if self._tokens is None:
                embeddings = self.concepts.embeddings.to(call.query.device, call.query.dtype)
                self._tokens = stream.embed(self._denoiser, embeddings)[None].expand(images, -1, -1)
            attention = stream.attend(block, self._tokens)
            self._tokens = self._tokens if attention.tokens is None else attention.tokens
            with without_autocast(call.query.device):
                membership = self._memberships(call.query.device)
                query = call.query[rows, :, image].float()
                scores = matmul_float32(query, attention.keys.float().transpose(-1, -2), call.factor)
                self._probabilities[layer] = self._over_heads(_joint_shares(scores, normalizers, membership))
                if output is not None:
                    vectors = matmul_float32((membership / membership.sum(dim=0)).T, attention.outputs)
                    products = matmul_float32(output[rows, :, image].float(), vectors.transpose(-1, -2))
                    scores = self._over_heads(products / output.shape[-1])
                    self._outputs[layer] = scores.clamp(-_LARGEST, _LARGEST)

    def _over_heads(self, maps: Tensor) -> Tensor:
        return maps if self._heads else maps.mean(dim=1, keepdim=True)

    # -- results -----------------------------------------------------------------------------------------------------

    def maps(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Compute the maps of the evaluation that ended.

        Returns:
            Probabilities and output-space scores by layer, float32 (images, heads or 1, image tokens, concepts).
        """
        calls, self._calls = self._calls, []
        groups: dict[tuple[object, ...], list[tuple[CrossCall, Tensor]]] = {}
        for call, keys in calls:
            groups.setdefault(call.shape, []).append((call, keys))
        for group in groups.values():
            first = group[0][0]
            size = max(1, _SCORES // first.scores)
            for start in range(0, len(group), size):
                part = group[start : start + size]
                for (call, _), maps in zip(part, _cross_shares(part, self.concepts.positions), strict=True):
                    self._probabilities[call.layer] = self._over_heads(maps)
        ordered = {layer: self._probabilities[layer] for layer in self._modules if layer in self._probabilities}
        return ordered, self._outputs


def _joint_shares(scores: Tensor, normalizers: Tensor, membership: Tensor) -> Tensor:
    """The probability of each concept in a softmax to which the keys of all concepts are added.

    Args:
        scores: float32 (..., queries, n), of the concepts' tokens.
        normalizers: float32 (..., queries), the log-sum-exp of the scores of the layer's own keys.
        membership: float32 (n, concepts), 1 where a token belongs to a concept.
    """
    ratios = (scores - normalizers[..., None]).clamp_max(_LARGEST_EXPONENT).exp()
    return matmul_float32(ratios, membership) / (1 + ratios.sum(dim=-1, keepdim=True))


def _cross_shares(group: Sequence[tuple[CrossCall, Tensor]], positions: Sequence[Sequence[int]]) -> Sequence[Tensor]:
    """The probability of each concept in a softmax over its own prompt and the tokens of the other concepts.

    Args:
        group: Layers of one shape, each with the keys of all prompts, (heads, prompts * text tokens, width).
        positions: Of each concept, the positions of its tokens in its prompt.

    Returns:
        Of each layer, float32 (images, heads, image tokens, concepts).
    """
    first = group[0][0]
    query = torch.stack([call.query for call, _ in group]).float()
    keys = torch.stack([keys for _, keys in group]).float()[:, None].expand(-1, len(first.query), -1, -1, -1)
    concept_scores: list[Tensor] = []
    others: list[Tensor] = []
    for part, tokens in zip(keys.chunk(len(positions), dim=3), positions, strict=True):
        scores = matmul_float32(query, part.transpose(-1, -2), first.factor)
        rest = [index for index in range(scores.shape[-1]) if index not in tokens]
        concept_scores.append(scores[..., list(tokens)].logsumexp(dim=-1))
        others.append(scores[..., rest].logsumexp(dim=-1))
    concepts, rest = torch.stack(concept_scores, dim=-1), torch.stack(others, dim=-1)
    total = torch.logaddexp(rest, concepts.logsumexp(dim=-1, keepdim=True))
    return (concepts - total).exp().unbind(0)


def _leaving(module: nn.Module, args: Any, output: Any) -> None:
    """Nothing is read there."""
