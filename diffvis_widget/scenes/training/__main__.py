"""Train the packaged weights: `python -m diffvis_widget.scenes.training [stages] --folder DIR`; it resumes.

`torchrun --nproc-per-node 2 -m diffvis_widget.scenes.training unet --threads 1` trains a stage with two processes.
Networks this small keep one processor core busier than two: together they process twice the batch in 1.3 times the
time. ``--quick`` compiles the networks and multiplies in bfloat16 where the device can; ``--shipped`` starts from the
packaged weights.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import open_clip
import torch
import torch.distributed as dist
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

from diffvis_widget.scenes import WEIGHTS, load
from diffvis_widget.scenes.architecture import clip_config, make_text_encoder, make_tokenizer, make_unet, make_vae
from diffvis_widget.scenes.evaluation.judge import Judge, load_judge

from . import dataset, export, stages
from .bars import log_accuracy
from .clip import train_clip
from .judge import load_reader, train_judge, train_reader
from .loop import rank_and_size
from .reward import train_reward
from .vae import encode_latents, train_vae

# Steps of each stage, in the order of the stages; an interrupted stage resumes.
STEPS = {
    "data": 60_000,
    "vae": 5_000,
    "text": 1_400,
    "unet": 12_000,
    "reader": 1_200,
    "reward": 300,
    "clip": 3_000,
    "judge": 3_000,
}

Networks = tuple[AutoencoderKL, CLIPTextModel, UNet2DConditionModel, open_clip.CLIP, Judge]


def _new(tokenizer: CLIPTokenizer) -> Networks:
    return make_vae(), make_text_encoder(tokenizer), make_unet(), open_clip.CLIP(**clip_config()), Judge()


def _shipped(tokenizer: CLIPTokenizer) -> Networks:
    pipe = load()
    clip = open_clip.CLIP(**clip_config())
    clip.load_state_dict(load_file(WEIGHTS / "clip" / "open_clip_model.safetensors"))
    return pipe.vae, pipe.text_encoder, pipe.unet, clip, load_judge(WEIGHTS / "judge.safetensors")


def _train_painter(
    networks: Networks, tokenizer: CLIPTokenizer, data: dataset.Dataset, args: argparse.Namespace
) -> StableDiffusionPipeline | None:
    """Runs the chosen stages from the autoencoder to the denoiser; returns the pipeline if the denoiser was trained."""
    vae, text_encoder, unet, _, _ = networks
    run: Path = args.folder / "run"
    if {"text", "unet", "reward"} & set(args.stages):
        text_encoder = stages.train_text(text_encoder, tokenizer, data, run, _steps("text", args))
    if not {"vae", "unet", "reader", "reward"} & set(args.stages):
        return None
    vae = train_vae(vae, data, run, _steps("vae", args), quick=args.quick)
    if not {"unet", "reader", "reward"} & set(args.stages):
        return None
    selection = dataset.Dataset(data.images[: args.latents], data.captions[: args.latents])
    latents = encode_latents(vae, selection, run, quick=args.quick)
    if "reader" in args.stages:
        train_reader(vae, latents, data, run, _steps("reader", args), quick=args.quick)
    if not {"unet", "reward"} & set(args.stages):
        return None
    scenes = stages.NoisedScenes(latents, selection.captions, tokenizer)

    def pipeline(denoiser: stages.Denoiser) -> StableDiffusionPipeline:
        return export.make_pipeline(vae, denoiser, tokenizer, latents)

    def evaluate(average: stages.Denoiser, step: int) -> None:
        log_accuracy(pipeline(average), step, run)

    denoiser = stages.train_unet(
        stages.Denoiser(unet, text_encoder),
        scenes,
        run,
        _steps("unet", args),
        rate=args.rate,
        quick=args.quick,
        evaluation=(args.bars, evaluate),
    )
    if "reward" in args.stages:
        reader = load_reader(run).to(vae.device)
        denoiser = train_reward(denoiser, vae, reader, scenes, run, _steps("reward", args), quick=args.quick)
    return pipeline(denoiser)


def _steps(stage: str, args: argparse.Namespace) -> int:
    """The number of steps of a stage; 0 loads a stage that is needed only for its result."""
    return (args.steps or STEPS[stage]) if stage in args.stages else 0


def main() -> None:
    """Run the chosen stages, all by default, and export what they trained."""
    parser = argparse.ArgumentParser(prog="python -m diffvis_widget.scenes.training", description=__doc__)
    parser.add_argument("stages", nargs="*", help=f"some of {', '.join(STEPS)}; all by default")
    parser.add_argument("--folder", type=Path, default=Path(".training"), help="data and checkpoints")
    parser.add_argument("--steps", type=int, help="another number of steps (with one stage)")
    parser.add_argument("--latents", type=int, default=60_000, help="number of scenes that the U-Net is trained on")
    parser.add_argument("--rate", type=float, default=2e-3, help="the U-Net's highest learning rate")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="compile the networks; bfloat16 if possible")
    parser.add_argument("--bars", type=int, default=2000, help="steps between measurements of prompt following")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shipped", action="store_true", help="start from the packaged weights")
    args = parser.parse_args()
    args.stages = chosen = args.stages or list(STEPS)
    if unknown := set(chosen) - set(STEPS):
        parser.error(f"unknown stage: {', '.join(sorted(unknown))}; the stages are {', '.join(STEPS)}")
    if args.steps is not None and len(chosen) != 1:
        parser.error("--steps needs exactly one stage")
    if "RANK" in os.environ:
        if len(chosen) != 1 or chosen == ["data"]:
            parser.error("torchrun trains a single stage: name one other than data")
        dist.init_process_group("gloo")

    torch.set_num_threads(args.threads)
    run: Path = args.folder / "run"
    if "data" in chosen:
        dataset.make(args.folder / "data", args.steps or STEPS["data"], args.threads)
    if chosen == ["data"]:
        return
    data = dataset.read(args.folder / "data")
    tokenizer = make_tokenizer(run / "tokenizer")

    torch.manual_seed(0)
    networks = (_shipped if args.shipped else _new)(tokenizer)
    for network in networks:
        network.to(torch.device(args.device))  # pyright: ignore[reportCallIssue, reportArgumentType]
    *_, clip, judge = networks
    exports: list[Callable[[], None]] = []
    if {"vae", "text", "unet", "reader", "reward"} & set(chosen):
        painter = _train_painter(networks, tokenizer, data, args)
        if painter is not None:
            exports.append(partial(export.export_pipeline, painter))
    if "clip" in chosen:
        trained = train_clip(clip, tokenizer, data, run, _steps("clip", args))
        exports.append(partial(export.export_clip, trained, tokenizer))
    if "judge" in chosen:
        judge = train_judge(judge, data, run, _steps("judge", args), quick=args.quick)
        exports.append(partial(export.export_judge, judge))
    if rank_and_size()[0] > 0:
        return
    for write in exports:
        write()
    print(f"{export.check_size()} bytes of weights")


if __name__ == "__main__":
    main()
