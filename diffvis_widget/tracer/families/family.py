"""Everything that differs from one model family to the next, as the fields of one dataclass.

A family is a set of denoisers that are traced in the same way. To add one, see docs/pages/add-a-family.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from diffvis_widget.tracer.guidance import GuidanceCandidates, SchedulerOutput, classifier_free, output_alone
from diffvis_widget.traces import Layer
from diffvis_widget.traces.types import Size

from .concept_streams import ConceptKeys, ConceptStream
from .latent_forms import LatentForm, even_latent_size
from .prompt_processors import PromptProcessor
from .reference_grids import ReferenceGrids, no_references
from .sequence_layouts import RowLayouts, SequenceLayout
from .token_streams import TokenizerCall, TokenStream, as_tokenized
from .vae_latents import pipeline_vae, scale_by_config
from .video_frames import FindFrames, only_frames

Modules = dict[str, nn.Module]
"""Modules by dotted path, in order of execution."""


def modules_ending(*suffixes: str, inside: str | tuple[str, ...] = "") -> Callable[[nn.Module], Modules]:
    """Select attention modules by how their dotted path ends, without refiners, which process the text alone.

    Args:
        *suffixes: Ends of the paths, such as ".attn2".
        inside: What the paths begin with, such as "transformer_blocks"; a tuple for several.

    Returns:
        A function for `Family.attention_modules`.
    """

    def select(denoiser: nn.Module) -> Modules:
        return {
            name: module
            for name, module in denoiser.named_modules()
            if hasattr(module, "processor")
            and name.endswith(suffixes)
            and name.startswith(inside)
            and "refiner" not in name
        }

    return select


def no_modules(denoiser: nn.Module) -> Modules:
    """Select no attention module: for denoisers that are traced without word maps.

    Args:
        denoiser: Any denoiser.

    Returns:
        An empty dictionary.
    """
    return {}


def transformer_blocks(denoiser: nn.Module) -> Modules:
    """Select the blocks of a transformer that contain attention, without refiners.

    Args:
        denoiser: A transformer whose blocks lie in `nn.ModuleList`s of its own.

    Returns:
        The blocks by dotted path, in order of execution.
    """
    lists = {
        name: module
        for name, module in denoiser.named_children()
        if isinstance(module, nn.ModuleList) and "refiner" not in name
    }
    return {
        f"{name}.{index}": block
        for name, blocks in lists.items()
        if any(hasattr(module, "processor") for module in blocks.modules())
        for index, block in enumerate(blocks)
    }


def patch_grid(positions: int, latent_size: Size, patch_size: int) -> Size | None:
    """The grid of image tokens where each token is a square of latent pixels.

    Args:
        positions: Number of image tokens.
        latent_size: (h, w) of the latents.
        patch_size: Latent pixels along one side of a square.

    Returns:
        (h, w) of the grid, or None where it does not have that many positions.
    """
    height, width = latent_size[0] // patch_size, latent_size[1] // patch_size
    return (height, width) if height * width == positions else None


def embedding_lengths(results: Sequence[Any]) -> list[int]:
    """As many text tokens as the first embeddings have positions.

    Args:
        results: Results of the `encode_prompt` calls of one prompt.

    Returns:
        Number of text tokens of each row.
    """
    return [len(row) for row in results[0][0]]


def as_returned(result: Any) -> Any:
    """Take what `encode_prompt` returned, or the text that the denoiser is given, as it is.

    Args:
        result: A sequence, with the embeddings at `Family.embedding_indices`; or one entry per row of the batch.

    Returns:
        The same.
    """
    return result


def encoded_prompts(arguments: Mapping[str, Any], call: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take the prompts that `encode_prompt` was given.

    Args:
        arguments: Its arguments by name.
        call: Arguments of the pipeline call by name.

    Returns:
        The arguments of `encode_prompt`.
    """
    return arguments


def all_layers(layer: Layer, layers: Sequence[Layer]) -> bool:
    """Every layer counts: nothing was measured on ground truth for these families, so none is preferred.

    Args:
        layer: The layer in question.
        layers: All layers of the denoiser.

    Returns:
        True.
    """
    return True


def any_pipeline(pipe: Any) -> bool:
    """Accept every pipeline whose denoiser fits.

    Args:
        pipe: The pipeline.

    Returns:
        True.
    """
    return True


def pipelines_named(*names: str) -> Callable[[Any], bool]:
    """Accept pipelines by their class; subclasses count too.

    Args:
        *names: Names of classes.

    Returns:
        A function for `Family.accepts`.
    """

    def accepts(pipe: Any) -> bool:
        return any(base.__name__ in names for base in type(pipe).__mro__)

    return accepts


@dataclass(frozen=True)
class Family:
    """How to trace one family of denoisers.

    Attributes:
        name: What messages call the family.
        denoisers: Class names of its denoisers; subclasses count too.
        attention_modules: Denoiser -> the modules in which image tokens attend to text tokens, by dotted path, in order
            of execution. Without any, a run is traced without word maps.
        token_streams: The tokenizers whose tokens make up the text tokens, in their order.
        attention_kind: "cross" (the keys are the text alone) or "joint" (text and image are one sequence).
        denoiser_attribute: Attribute of the pipeline that holds the denoiser.
        accepts: Pipeline -> whether this family describes how it uses its denoiser.
        text_argument: Argument of the denoiser's `forward` that carries the text embeddings, one row per batch row.
        batch_axes: For arguments of `forward` whose rows are not along the first axis: the axis, or None for arguments
            that all rows share.
        shared_arguments: (arguments of `forward`, some rows of its batch) -> those that are one list for all rows, for
            these rows alone; None: there are none.
        encoded: What `encode_prompt` returned -> the sequence that `embedding_indices` and `text_lengths` are about.
        tokenized: (arguments of `encode_prompt`, calls of tokenizers inside it) -> the calls with one text for each
            prompt, where a prompt is tokenized in pieces.
        text_rows: What `text_argument` holds -> the text embeddings, one entry per row of the batch.
        prompt_processor: What a pipeline without `encode_prompt` calls with its prompts; None: it has `encode_prompt`.
        prompt_arguments: (arguments of `encode_prompt`, arguments of the pipeline call) -> the former, with the prompts
            as they were typed.
        embedding_indices: Where `encode_prompt` returns the embeddings of the prompt and of the negative prompt; None:
            the negative prompt is encoded by a call of its own.
        encode_calls: How many calls of `encode_prompt` encode one prompt.
        text_lengths: Results of those calls -> number of text tokens of each row.
        connector: Attribute of the pipeline that holds a model between the text encoder and the denoiser: it takes the
            embeddings of all rows, and returns those that the denoiser receives; None: the denoiser receives what
            `encode_prompt` returns.
        negative_first: Whether a batch that holds both branches begins with the negative prompt's.
        references_alone_last: Whether a batch may end with a third branch, of references without a prompt.
        guidance_candidates: Ways in which the pipelines combine both branches.
        scheduler_output: Noise level of a step -> the factors of the latents and of the guided output whose sum the
            pipeline's loop gives its scheduler.
        sequence_layout: Where text and image tokens lie in the keys; required for joint attention.
        text_queries: Whether the text tokens of joint attention are queries too; False where only image tokens are.
        image_among_keys: Whether tokens of an image follow the text among the keys of cross-attention, in one softmax.
        row_layouts: Arguments of the denoiser by name -> the layout of each row of the batch, where other tokens stand
            between text and image; None: `sequence_layout` is that of every row.
        attends_by_row: Whether the attention modules attend one row of the batch at a time.
        patch_size: Latent pixels along one side of an image token.
        patch_size_in_config: Whether models of the family have image tokens of different sizes, and the config of the
            denoiser states its own as `patch_size`.
        grid_of: (image tokens, latent size, patch size) -> (h, w) of the token grid, or None.
        packing: If not None, the pipeline's loop keeps latents as a sequence of squares of that many latent pixels
            along one side; None: (n, C, h, w).
        packed_size: (pipeline, arguments of `prepare_latents`, packing) -> (h, w) of packed latents.
        input_ends_with_image: Whether the denoiser is given packed latents behind places of the text, and not at the
            beginning.
        output_ends_with_image: Whether the denoiser's output of packed latents holds tokens of the image at its end,
            behind those of the text, and not at its beginning.
        reference_grids: (arguments of the denoiser, row of its batch, image tokens) -> (h, w) of the tokens of each
            reference image, which follow those of the image in joint attention.
        reference_tokens: (arguments of the denoiser, row of its batch) -> where the tokens of each reference lie in the
            keys; None: behind those of the image, one after another.
        encoded_references: (arguments of the denoiser, row of its batch) -> which of the images that the autoencoder
            encoded in the call are the references; None: they are found by their sizes.
        side_by_side: Whether the denoiser sees the image at the left of another, as one image twice as wide.
        latent_form: How the pipeline's loop keeps latents in a form of its own; None: (n, C, h, w), or packed.
        channels_last: Whether the pipeline's loop keeps latents as (n, F, h, w, C), with one frame for an image.
        traces_videos: Whether videos are traced: latents (n, C, F, h, w), or packed frame by frame, and image tokens
            in the same order. Otherwise a call that makes one is refused.
        frames_first: Whether the pipeline's loop keeps latents of videos as (n, F, C, h, w).
        frames_per_token: Latent frames of a video that one image token covers.
        frames_in_batch: Whether the frames of a video are rows of the batch in the denoiser's attention, and in the
            autoencoder, which decodes images; the pipeline's loop may keep latents as (n * F, C, h, w).
        text_by_frame: Whether the denoiser is given its text once for each frame, and not once for each video.
        video_frames: (pipeline, what its `prepare_latents` returned, arguments of that, arguments of its `__call__`) ->
            what the latents of a video hold besides the frames that are denoised.
        second_denoiser: Attribute of the pipeline that may hold a second denoiser of the same class, which takes over
            within a run; its attention counts to the layers of the same names.
        vae_of: Pipeline -> its autoencoder, or None for a model that denoises pixels.
        scale_for_vae: (autoencoder, latents) -> what `decode` of the autoencoder takes.
        decode_arguments: Further arguments of `decode`, or a function of the autoencoder and what `decode` takes.
        self_attention: Denoiser -> modules in which image tokens attend to image tokens alone, by dotted path, in order
            of execution. The last one on the finest grid up to 32 x 32 refines the maps. In joint attention it is the
            word-attention module at a third of the depth.
        block_of: Path of an attention module -> path of the block in which cross-attention stands beside the
            self-attention of the same positions; None: the module that holds both.
        concept_keys: (cross-attention module, text embeddings) -> their keys in that layer; None: words outside the
            prompt cannot be traced.
        concept_stream: The same for joint attention: how concept tokens pass through the blocks.
        concept_template: The prompt in which a word outside the prompt is encoded, with "{}" in its place.
        is_default_layer: (layer, all layers) -> whether `heat_map` includes the layer when none is named.
        cam_layers: Denoiser -> the modules that DF-CAM explains, by dotted path, in order of execution.
        text_encoders: Attributes of the pipeline that hold text encoders through which relevance propagates; empty:
            relevance ends at the text embeddings.
        freezable: Whether `intervene.freeze` may hold the attention of another run in memory.
        batches_steps: Whether relevance evaluates several small steps in one batch, because that is faster.
    """

    name: str
    denoisers: tuple[str, ...]
    attention_modules: Callable[[nn.Module], Modules] = no_modules
    token_streams: tuple[TokenStream, ...] = ()
    attention_kind: Literal["cross", "joint"] = "joint"
    denoiser_attribute: str = "transformer"
    accepts: Callable[[Any], bool] = any_pipeline
    # text
    text_argument: str = "encoder_hidden_states"
    batch_axes: Mapping[str, int | None] = field(default_factory=dict[str, "int | None"])
    shared_arguments: Callable[[Mapping[str, Any], Sequence[int]], dict[str, Any]] | None = None
    encoded: Callable[[Any], Any] = as_returned
    tokenized: Callable[[Mapping[str, Any], Sequence[TokenizerCall]], list[TokenizerCall]] = as_tokenized
    text_rows: Callable[[Any], Any] = as_returned
    prompt_processor: PromptProcessor | None = None
    prompt_arguments: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]] = encoded_prompts
    embedding_indices: tuple[int, int | None] = (0, 1)
    encode_calls: int = 1
    text_lengths: Callable[[Sequence[Any]], list[int]] = embedding_lengths
    connector: str | None = None
    # guidance
    negative_first: bool = True
    references_alone_last: bool = False
    guidance_candidates: GuidanceCandidates = classifier_free
    scheduler_output: SchedulerOutput = output_alone
    # positions
    sequence_layout: SequenceLayout | None = None
    text_queries: bool = True
    image_among_keys: bool = False
    row_layouts: RowLayouts | None = None
    attends_by_row: bool = False
    patch_size: int = 1
    patch_size_in_config: bool = False
    grid_of: Callable[[int, Size, int], Size | None] = patch_grid
    packing: int | None = None
    packed_size: Callable[[Any, Mapping[str, Any], int], Size] = even_latent_size
    input_ends_with_image: bool = False
    output_ends_with_image: bool = False
    reference_grids: ReferenceGrids = no_references
    reference_tokens: Callable[[Mapping[str, Any], int], Sequence[slice]] | None = None
    encoded_references: Callable[[Mapping[str, Any], int], slice] | None = None
    side_by_side: bool = False
    latent_form: LatentForm | None = None
    channels_last: bool = False
    # videos
    traces_videos: bool = False
    frames_first: bool = False
    frames_per_token: int = 1
    frames_in_batch: bool = False
    text_by_frame: bool = False
    video_frames: FindFrames = only_frames
    second_denoiser: str | None = None
    # images
    vae_of: Callable[[Any], Any] = pipeline_vae
    scale_for_vae: Callable[[Any, Tensor], Tensor] = scale_by_config
    decode_arguments: Mapping[str, Any] | Callable[[Any, Tensor], Mapping[str, Any]] = field(
        default_factory=dict[str, Any]
    )
    # explanations and interventions
    self_attention: Callable[[nn.Module], Modules] = no_modules
    block_of: Callable[[str], str] | None = None
    concept_keys: ConceptKeys | None = None
    concept_stream: ConceptStream | None = None
    concept_template: str = "{}"
    is_default_layer: Callable[[Layer, Sequence[Layer]], bool] = all_layers
    cam_layers: Callable[[nn.Module], Modules] = transformer_blocks
    text_encoders: tuple[str, ...] = ()
    freezable: bool = False
    batches_steps: bool = False

    def grid(self, positions: int, latent_size: Size, frames: int = 1) -> Size | None:
        """The grid of a layer's heat maps.

        Args:
            positions: Number of image tokens of the layer.
            latent_size: (h, w) of the latents.
            frames: Number of latent frames of a video.

        Returns:
            (h, w), or None where no grid of the latents has that many positions.
        """
        layers = -(-frames // self.frames_per_token)
        return None if positions % layers else self.grid_of(positions // layers, latent_size, self.patch_size)

    def image_output(self, packed: Tensor, positions: int) -> Tensor:
        """Select the image's tokens in packed latents, or in what the denoiser returned for them.

        Args:
            packed: (n, tokens, channels).
            positions: Number of the image's tokens.

        Returns:
            (n, positions, channels).
        """
        return packed[:, -positions:] if self.output_ends_with_image else packed[:, :positions]

    def refining_modules(self, denoiser: nn.Module) -> Modules:
        """The modules whose attention among image tokens may refine the words' maps.

        In joint attention it is the layer at a third of the depth. There words are grounded well in published work: by
        default ConceptAttention (arXiv 2502.04320) reads layers 10 to 17 of the 57 of FLUX.1. That was not measured
        here, for want of a trained model with joint attention.

        Args:
            denoiser: A denoiser of this family.

        Returns:
            Modules by dotted path, in order of execution.
        """
        if self.attention_kind == "cross":
            return self.self_attention(denoiser)
        modules = self.attention_modules(denoiser)
        return dict(list(modules.items())[len(modules) // 3 :][:1])

    @property
    def image_comes_first(self) -> bool:
        """Whether the image tokens stand before the text tokens in joint attention."""
        spans = None if self.sequence_layout is None else self.sequence_layout(1024, 32, 32)
        return spans is not None and spans[1].start < spans[0].start
