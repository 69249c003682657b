# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The loss of the transformer and what is logged beside it, as pure functions."""

import torch
import torch.nn.functional as F

from ..models.quantization import ScaleSchedule, tokens_per_frame


SCALE_WEIGHTINGS = ("tokens", "sqrt_area", "scales")


def scale_weights(scale_schedule: ScaleSchedule, weighting: str, device: torch.device | None = None) -> torch.Tensor:
    """
    Weight of every token of a frame, with mean 1.

    Args:
        scale_schedule (`tuple[tuple[int, int], ...]`): Grids `(h_k, w_k)`.
        weighting (`str`):
            `"tokens"`: all tokens alike. `"scales"`: all scales alike. `"sqrt_area"`: between the two, a token weighs
            `1 / sqrt(h_k * w_k)`.
        device (`torch.device`, *optional*): Of the result.

    Returns:
        `torch.Tensor` of shape `(L,)`: Float32.
    """
    exponents = {"tokens": 0.0, "sqrt_area": 0.5, "scales": 1.0}
    if weighting not in exponents:
        raise ValueError(f"`weighting` must be one of {SCALE_WEIGHTINGS}, got {weighting!r}.")
    areas = torch.tensor([height * width for height, width in scale_schedule], device=device)
    weights = (areas.to(torch.float32) ** -exponents[weighting]).repeat_interleave(areas)
    return weights / weights.mean()


def bit_cross_entropy(
    logits: torch.Tensor, bits: torch.Tensor, scale_schedule: ScaleSchedule, weighting: str = "tokens"
) -> torch.Tensor:
    """
    Bit-wise cross-entropy (VideoAR section 4.2).

    Args:
        logits (`torch.Tensor` of shape `(B, T * L, d)`): Bit logits of whole frames.
        bits (`torch.Tensor` of shape `(B, T * L, d)`): Boolean targets.
        scale_schedule (`tuple[tuple[int, int], ...]`): Grids.
        weighting (`str`, defaults to `"tokens"`): See [`scale_weights`].

    Returns:
        `torch.Tensor`: Scalar, nats per bit.
    """
    loss = F.binary_cross_entropy_with_logits(logits.float(), bits.float(), reduction="none").mean(
        dim=-1
    )  # (B, T * L)
    weights = scale_weights(scale_schedule, weighting, logits.device)
    return (loss.unflatten(1, (-1, len(weights))) * weights).mean()


@torch.no_grad()
def bit_metrics(logits: torch.Tensor, bits: torch.Tensor, scale_schedule: ScaleSchedule) -> dict[str, float]:
    """
    Loss, bit accuracy, and the share of tokens with *all* bits right, for every scale and for every latent frame. The share of
    right tokens tells more than bit accuracy, which looks fine on poor models.

    Args:
        logits (`torch.Tensor` of shape `(B, T * L, d)`): Bit logits of whole frames.
        bits (`torch.Tensor` of shape `(B, T * L, d)`): Boolean targets.
        scale_schedule (`tuple[tuple[int, int], ...]`): Grids.

    Returns:
        `dict[str, float]`: Keys `loss/scale_k`, `bit_accuracy/frame_t`, `token_accuracy/scale_k`, ….
    """
    losses = F.binary_cross_entropy_with_logits(logits.float(), bits.float(), reduction="none").mean(dim=-1)
    right = (logits > 0) == bits
    frames = (-1, tokens_per_frame(scale_schedule))
    values = {
        "loss": losses.unflatten(1, frames),
        "bit_accuracy": right.float().mean(dim=-1).unflatten(1, frames),
        "token_accuracy": right.all(dim=-1).float().unflatten(1, frames),
    }  # (B, T, L)
    sizes = [height * width for height, width in scale_schedule]
    metrics = {}
    for name, value in values.items():
        for scale, part in enumerate(value.split(sizes, dim=2)):
            metrics[f"{name}/scale_{scale}"] = part.mean()
        for frame in range(value.shape[1]):
            metrics[f"{name}/frame_{frame}"] = value[:, frame].mean()
    return dict(zip(metrics, torch.stack(list(metrics.values())).tolist()))
