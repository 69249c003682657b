# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Refinement of finished frames through the tokenizer. Ours, not the paper's; see `refinements` of [`VideoARScheduler`].

A round decodes a finished frame and encodes what it shows. The coarser maps of the encoded frame are kept, and the finest are sampled
again, given these. Decoder and encoder continue the video, so a round needs the tokenizer's states after the frame before.
"""

import torch

from ..models.autoencoder_videoar import AutoencoderVideoAR, AutoencoderVideoARState
from ..models.quantization import ScaleSchedule, features_to_maps
from ..schedulers.scheduling_videoar import SamplingStep, VideoARScheduler
from .cuda_graphs import EagerRunner


class FrameRefiner:
    """
    The tokenizer's states of one video, and what a round of refinement reads.

    Args:
        vae ([`AutoencoderVideoAR`]): The tokenizer.
        scheduler ([`VideoARScheduler`]): Says what the transformer reads for a map.
        scale_schedule (`tuple[tuple[int, int], ...]`): Grids of the video.
        runner ([`EagerRunner`]): Runs the tokenizer.
    """

    def __init__(
        self, vae: AutoencoderVideoAR, scheduler: VideoARScheduler, scale_schedule: ScaleSchedule, runner: EagerRunner
    ):
        self.vae = vae
        self.scheduler = scheduler
        self.scale_schedule = scale_schedule
        self.runner = runner
        self.decoder_state: AutoencoderVideoARState | None = None
        self.encoder_state: AutoencoderVideoARState | None = None
        self._handed_on: tuple[torch.Tensor, AutoencoderVideoARState] | None = None

    def start_over(self) -> None:
        """The next latent frame is the first of a video."""
        self.decoder_state = self.encoder_state = self._handed_on = None

    def hand_on(self, pixels: torch.Tensor, decoder_state: AutoencoderVideoARState) -> None:
        """What [`follow`] would decode next, decoded: pixel frames `(B, 3, F, H, W)` and the decoder's state after them."""
        self._handed_on = (pixels, decoder_state)

    def follow(self, latents: torch.Tensor) -> None:
        """Moves the states past finished latent frames `(B, d, T, H', W')`."""
        if self._handed_on is None:
            pixels, self.decoder_state = self.vae.decode_chunk(latents, self.decoder_state, return_dict=False)
        else:
            pixels, self.decoder_state = self._handed_on
            self._handed_on = None
        _, self.encoder_state = self.runner.encode_chunk(self.vae, pixels, self.encoder_state)

    def features_of(self, frame: torch.Tensor) -> torch.Tensor:
        """What a latent frame `(B, d, H', W')` shows, encoded: features before quantisation of that shape. No state moves."""
        states = self.decoder_state, self.encoder_state
        return self.runner.reencode_chunk(self.vae, frame[:, :, None], *states)[:, :, 0]

    def coarser_maps(
        self, step: SamplingStep, features: torch.Tensor, previous_frame: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        The maps of an encoded frame that a round keeps, those coarser than `step.scale`. The ones sampled before the finer maps may
        not agree with what these made of the frame.

        Args:
            step ([`SamplingStep`]): The first map that is sampled again.
            features (`torch.Tensor` of shape `(B, d, H', W')`): See [`features_of`].
            previous_frame (`torch.Tensor` of shape `(B, d, H', W')`): The frame before, zeros before the first.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: What the transformer reads for the kept maps, `(B, S, c)`, and their sum
            `(B, d, H', W')`.
        """
        maps = features_to_maps(features[:, :, None], self.scale_schedule[: step.scale])
        kept_steps = self.scheduler.frame_steps(step.frame, self.scale_schedule)
        model_input = torch.cat(
            [
                self.scheduler.scale_model_input(partial_sum, kept_step, previous_frame)
                for partial_sum, kept_step in zip(maps.partial_sums, kept_steps)
            ],
            dim=1,
        )
        return model_input, maps.latents[:, :, 0]
