"""The networks of the scenes model, built from their configurations.

Images are 96 x 96 pixels, latents 4 x 12 x 12. The U-Net has cross-attention at 12 x 12, 6 x 6 and 3 x 3.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import open_clip
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from diffvis_widget.scenes import MARK

# CLIP's byte-pair merges in order of frequency. Most words of the world are one token; rarer ones (triangle, balloon,
# striped, dotted) stay split, as words do in large models.
MERGES = 7168
MAX_TOKENS = 32
TEXT_WIDTH = 128
CLIP_NAME = "diffvis-scenes-clip"


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write CLIP's byte-level BPE, cut to its first `MERGES` merges, and load it.

    Args:
        folder: Where its files are written.

    Returns:
        The tokenizer.
    """
    source = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(source.read_bytes()).decode("utf-8").split("\n")[1 : MERGES + 1]
    symbols = _byte_symbols()
    vocabulary = [*symbols, *(s + "</w>" for s in symbols), *("".join(line.split()) for line in lines)]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocab = {token: i for i, token in enumerate(vocabulary)}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return CLIPTokenizer(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=MAX_TOKENS
    )


def _byte_symbols() -> list[str]:
    """The printable stand-ins for the 256 bytes, in the order of CLIP's vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(rest))]


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Build a CLIP text encoder of three layers.

    Args:
        tokenizer: The tokenizer whose vocabulary it has.

    Returns:
        The network, with random weights.
    """
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            trained_on=MARK,  # pyright: ignore[reportCallIssue] (configs store any further name)
        )
    )


def make_vae() -> AutoencoderKL:
    """Build a small KL autoencoder: 96 x 96 RGB to 4 x 12 x 12 and back.

    Returns:
        The network, with random weights.
    """
    # diffusers annotates these tuples as if they had a single entry.
    blocks: Any = {
        "block_out_channels": (16, 32, 64, 96),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    return AutoencoderKL(
        **blocks,
        sample_size=96,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        mid_block_add_attention=False,
    )


def make_unet() -> UNet2DConditionModel:
    """Build a U-Net of three levels with cross-attention on each.

    Returns:
        The network, with random weights.
    """
    return UNet2DConditionModel(
        sample_size=12,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 96, 96),
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # diffusers reads this as the number of heads of a U-Net
        norm_num_groups=8,
    )


def make_scheduler() -> DPMSolverMultistepScheduler:
    """DPM-Solver++ over 1000 training steps, with v-prediction and zero terminal signal-to-noise ratio.

    With zero terminal signal (Lin et al. 2024, arXiv 2305.08891) the model generates the layout itself, from pure
    noise. The solver is of first order: with a guidance of 7.5 the extrapolation of the second order overshoots where
    steps are few; at 12 steps it changes colours and shapes.

    Returns:
        The scheduler.
    """
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,  # without effect here; StableDiffusionPipeline would set it, with a warning
        solver_order=1,
    )


def clip_config() -> dict[str, Any]:
    """The open_clip configuration of the concept model; its text encoder shares the tokenizer of the pipeline.

    Returns:
        Keyword arguments of `open_clip.CLIP`.
    """
    return {
        "embed_dim": 96,
        # The sigmoid loss starts from "no phrase is true".
        "init_logit_scale": 2.302585092994046,
        "init_logit_bias": -5.0,
        # A residual network learns shapes from a tenth of the images that patches need.
        "vision_cfg": {"image_size": 96, "layers": [1, 2, 2, 1], "width": 12, "head_width": 32},
        "text_cfg": {
            "context_length": MAX_TOKENS,
            "vocab_size": MERGES + 514,
            # With "local-dir:" open_clip reads the tokenizer from the model's own folder, whatever the name.
            "hf_tokenizer_name": CLIP_NAME,
            "width": 64,
            "heads": 4,
            "layers": 2,
        },
    }
