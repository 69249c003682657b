# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
What `pipe(prompt)` does, step by step: encode the text, sample latent frame after latent frame, decode. The result is the same to the
bit. A starting point for loops of your own.

    python examples/inference/unrolled_loop.py --prompt "a red circle moves to the right"
"""

import torch

from videoar_pipelines import FrameSampler, PromptStates, VideoARPipeline
from videoar_pipelines.utils import save_video
from videoar_pipelines.utils.command_line import CommandLineParser, loading, run_command_line


def generate(pipe: VideoARPipeline, prompt: str, num_latent_frames: int, generator: torch.Generator) -> torch.Tensor:
    """Pixel frames `(1, 3, F, H, W)` in [-1, 1], at the transformer's default size."""
    # 1. The text, for both guidance branches
    text = PromptStates(*pipe.encode_prompt(prompt))

    # 2. How to sample, and the grids of a latent frame, coarse to fine
    options = pipe.scheduler.sampling_options()
    config = pipe.transformer.config
    scale_schedule = pipe.scheduler.get_scale_schedule(config.sample_height, config.sample_width)

    # 3. Latent frame after latent frame, each scale by scale (`FrameSampler.sample_frame` is the paper's loop)
    sampler = FrameSampler(
        *(pipe.transformer, pipe.scheduler, pipe.vae, text, options, scale_schedule),
        num_frames=num_latent_frames,
        generator=generator,
    )
    latents = torch.stack([sampler.sample_frame() for _ in range(num_latent_frames)], dim=2)

    # 4. Pixels
    return pipe.vae.decode(latents).sample


def main():
    parser = CommandLineParser(__doc__)
    parser.add_argument("--prompt", required=True, help="What the video shows.")
    parser.add_argument("--checkpoint", default="checkpoints/videoar-moving-shapes", help="Folder or Hub id.")
    parser.add_argument("--num_latent_frames", type=int, default=5, help="5 are 17 pixel frames.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs/unrolled_loop.mp4")
    args = parser.parse_args()

    with loading("--checkpoint", args.checkpoint):
        pipe = VideoARPipeline.from_pretrained(args.checkpoint)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(args.seed)
        video = generate(pipe, args.prompt, args.num_latent_frames, generator)
    save_video(video[0].permute(1, 2, 3, 0).numpy() / 2 + 0.5, args.output, fps=8, title=args.prompt)
    print(args.output)


if __name__ == "__main__":
    run_command_line(main)
