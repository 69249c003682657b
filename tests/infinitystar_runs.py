# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The transformer of InfinityStar at tiny size, and generations of the public code (`tests/fixtures/infinitystar-tiny`)."""

import json
from dataclasses import dataclass
from functools import cache

import torch
from infinitystar_transformer_keys import plan_tensors, read_config
from safetensors.torch import load_file

from tests.infinitystar_fixtures import FOLDER, make_public_tokenizer
from videoar_pipelines import InfinityStarPipeline, InfinityStarScheduler, InfinityStarTransformer3DModel
from videoar_pipelines.models.quantization_infinitystar import clip_bits_to_latents
from videoar_pipelines.models.token_layout_infinitystar import InfinityStarPass
from videoar_pipelines.schedulers.scheduling_infinitystar import InfinityStarSamplingOptions


GRID = (4, 7)


@cache
def run_facts() -> dict:
    return json.loads((FOLDER / "transformer_facts.json").read_text())


@cache
def recorded() -> dict[str, torch.Tensor]:
    """What the public code gave."""
    return load_file(FOLDER / "transformer_expected.safetensors")


@cache
def public_transformer_tensors() -> dict[str, torch.Tensor]:
    """The weights under their public names."""
    return load_file(FOLDER / "transformer.safetensors")


def make_public_transformer() -> InfinityStarTransformer3DModel:
    """A model with the weights of the reference."""
    public = public_transformer_tensors()
    shapes = {name: tuple(tensor.shape) for name, tensor in public.items()}
    config = read_config(shapes)
    model = InfinityStarTransformer3DModel(**config)
    plans = plan_tensors(shapes, config)
    model.load_state_dict(
        {name: plan.convert(*(public[source] for source in plan.sources)) for name, plan in plans.items()}
    )
    return model.eval()


def make_run_scheduler(**config) -> InfinityStarScheduler:
    """The passes of the recorded runs: five scales, clips of two latent frames."""
    arguments = {
        "scale_schedules": {"4x7": [[1, 1], [2, 3], [2, 4], [3, 5], [4, 7]]},
        "image_repetitions": [2] * 5,
        "video_repetitions": [2, 2, 2, 2, 1],
        "latents_per_clip": 2,
        "min_detail_tokens": 15,
    }
    return InfinityStarScheduler(**(arguments | config))


def make_run_pipeline() -> InfinityStarPipeline:
    """A pipeline of the reference's weights, without a text encoder."""
    pipeline = InfinityStarPipeline(
        None, None, make_public_tokenizer(), make_public_transformer(), make_run_scheduler()
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def run_text() -> torch.Tensor:
    """Text states of the recorded prompt, `(1, 13, 48)`."""
    return recorded()["text.features"][None]


@dataclass
class RecordedRun:
    """
    A generation of the public code.

    Args:
        name (`str`): Its name in the fixture.
        clips (`list[tuple[InfinityStarPass, ...]]`): Its passes, clip by clip.
        options ([`InfinityStarSamplingOptions`]): Guidance and temperatures.
        seed (`int`): Of the generator.
        num_forced_clips (`int`): Clips whose bits were given.
    """

    name: str
    clips: list[tuple[InfinityStarPass, ...]]
    options: InfinityStarSamplingOptions
    seed: int
    num_forced_clips: int

    @classmethod
    def load(cls, name: str) -> "RecordedRun":
        facts = run_facts()["runs"][name]
        guidance, scheduler = facts["guidance"], make_run_scheduler()
        return cls(
            name=name,
            clips=scheduler.get_passes(1 + 2 * (facts["num_clips"] - 1), *GRID),
            options=scheduler.get_options(
                guidance["scale"], "projected" if guidance["kind"] == "apg" else "plain", *facts["tau"]
            ),
            seed=facts["seed"],
            num_forced_clips=facts["num_forced_clips"],
        )

    @property
    def passes(self) -> list[InfinityStarPass]:
        return [item for clip in self.clips for item in clip]

    def get(self, current_pass: InfinityStarPass, what: str) -> torch.Tensor | None:
        """`what` was recorded of a pass, or `None`; logits as `(1 or 2, L, d, 2)`."""
        tensor = recorded().get(f"{self.name}.p{current_pass.step:03d}.{what}")
        if tensor is None or what == "bits":
            return tensor if tensor is None else tensor.bool()
        if what in ("logits", "guided"):
            tensor = tensor[None] if what == "guided" else tensor
            return tensor.unflatten(-1, (-1, 2))
        return tensor

    def sum_before(self, current_pass: InfinityStarPass) -> torch.Tensor:
        """The sum of the recorded passes of the clip before one of them, `(1, 64, T, 4, 7)`."""
        before = [item for item in self.clips[current_pass.clip] if item.step < current_pass.step]
        if not before:
            return torch.zeros(1, 64, current_pass.grid[0], *GRID)
        return clip_bits_to_latents([self.get(item, "bits") for item in before], 64, GRID)

    @property
    def latents(self) -> torch.Tensor:
        """The finished sums of all clips, `(1, 64, frames, 4, 7)`."""
        return recorded()[f"{self.name}.codes"]
