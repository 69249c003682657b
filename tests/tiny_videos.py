# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Videos of tiny pipelines, as several files of tests make and compare them."""

import torch

from videoar_pipelines import VideoARPipeline


PROMPT = "a red circle moves to the right"


def make_generator(seed=0):
    return torch.Generator().manual_seed(seed)


def sample(pipe, prompt=PROMPT, seed=0, **arguments):
    """Latents `(B, d, T, H', W')`."""
    arguments = {"generator": make_generator(seed), "output_type": "latent"} | arguments
    return pipe(prompt, **arguments).frames


def assert_close_pixels(video, expected):
    # Convolutions over other shapes may round differently.
    torch.testing.assert_close(torch.as_tensor(video), torch.as_tensor(expected), atol=1e-5, rtol=0)


def load(folder, **arguments):
    pipe = VideoARPipeline.from_pretrained(folder, **arguments)
    pipe.set_progress_bar_config(disable=True)
    return pipe
