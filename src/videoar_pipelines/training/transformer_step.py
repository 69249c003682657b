# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
A training step of the transformer up to its loss (VideoAR section 4.2): batch to maps, captions to text states, teacher-forced
logits, bit-wise cross-entropy. Backward, optimiser and processes are not part of it.

Letters used in shapes: `B` clips, `T` latent frames, `L` tokens of a frame, `(h_k, w_k)` grid of scale `k`, `(H', W')` latent
grid, `d` bits of a token, `N` text tokens, `C` width of the text states.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from transformers import PreTrainedTokenizerBase

from ..data.token_shards import round_features
from ..models.autoencoder_videoar import AutoencoderVideoAR
from ..models.quantization import (
    MultiScaleMaps,
    ScaleSchedule,
    bits_to_maps,
    flatten_bits,
    tokens_per_frame,
)
from ..models.text_encoding import encode_text, pad_text, padded_text_length
from ..models.token_layout import sequence_layout
from ..models.transformer_videoar import VideoARTransformer3DModel
from ..schedulers.scheduling_videoar import VideoARScheduler
from .attention_masks import training_attention_mask


# Weight of a token as a power of its grid's area: -exponent.
_AREA_EXPONENTS = {"tokens": 0.0, "sqrt_area": 0.5, "scales": 1.0}
SCALE_WEIGHTINGS = tuple(_AREA_EXPONENTS)

# Nats: how much likelier the right caption has to be before the contrast of captions is nearly content.
CONTRAST_TEMPERATURE = 20.0


@dataclass(frozen=True)
class TransformerStepOptions:
    """
    What a step computes.

    Args:
        max_sequence_length (`int`): Longest text in tokens; longer captions are cut. Shorter batches are padded to fewer, see
            `text_encoding.padded_text_length`.
        train_text_encoder (`bool`, defaults to `False`):
            Whether gradients reach the text encoder. Then captions are encoded even where the batch has text states.
        text_drop_probability (`float`, defaults to 0.0):
            Share of clips that get the learned null text and the learned null of every frame condition, for guidance.
        word_drop_probability (`float`, defaults to 0.0):
            Share of words left out of captions, which are then encoded even where the batch has text states; see [`drop_words`].
        caption_contrast (`float`, defaults to 0.0):
            Weight of [`caption_contrast`], in nats a bit for every nat of a clip. Above 0 the transformer sees every clip twice.
        attention (`str`, defaults to `"boolean"`): The mask, see `attention_masks.training_attention_mask`.
        window (`int`, *optional*): Earlier latent frames that a frame sees; all of them when `None`.
        frame_mask_probability (`float`, defaults to 0.0): `p_mask` of Random Frame Mask.
        frame_mask_drawn_per (`str`, defaults to `"pair"`): See `token_layout.random_frame_keep`.
        scale_weighting (`str`, defaults to `"tokens"`): See [`scale_weights`].
        text_length_divisor (`int`, defaults to 1):
            Padded texts differ in length by multiples of this: for processes that share sequences, their number.
    """

    max_sequence_length: int
    train_text_encoder: bool = False
    text_drop_probability: float = 0.0
    word_drop_probability: float = 0.0
    caption_contrast: float = 0.0
    attention: str = "boolean"
    window: int | None = None
    frame_mask_probability: float = 0.0
    frame_mask_drawn_per: str = "pair"
    scale_weighting: str = "tokens"
    text_length_divisor: int = 1


@dataclass
class TransformerStepOutput:
    """
    What a step gives.

    Args:
        loss (`torch.Tensor`): Scalar with a graph, nats per bit; with the contrast of captions, if there is one.
        logits (`torch.Tensor` of shape `(B, T * L, d)`): Bit logits.
        target_bits (`torch.Tensor` of shape `(B, T * L, d)`): Boolean.
        scale_schedule (`tuple[tuple[int, int], ...]`): Grids `(h_k, w_k)`.
        caption_margins (`torch.Tensor` of shape `(B,)`, *optional*):
            With a contrast of captions: by how many nats a clip is likelier under its own caption than under the next clip's.
        has_two_texts (`torch.Tensor` of shape `(B,)`, *optional*): Whether these two captions differ, and the text was not dropped.
    """

    loss: torch.Tensor
    logits: torch.Tensor
    target_bits: torch.Tensor
    scale_schedule: ScaleSchedule
    caption_margins: torch.Tensor | None = None
    has_two_texts: torch.Tensor | None = None


# 1. Batch to maps and text


def corruption_strength(step: int, warmup_steps: int) -> float:
    """Factor of the flip probabilities: rises linearly from 0 over `warmup_steps` steps, then stays 1."""
    return 1.0 if warmup_steps == 0 else min(1.0, step / warmup_steps)


@torch.no_grad()
def batch_to_features(batch: dict[str, Any], vae: AutoencoderVideoAR | None = None) -> torch.Tensor | None:
    """Features `(B, d, T, H', W')` before quantisation, of a batch that holds them or pixels; `None` of one with bits alone."""
    if "pixel_values" in batch:
        return round_features(vae.encode(batch["pixel_values"]).latents)
    return batch.get("features")


def batch_to_maps(
    batch: dict[str, Any],
    scheduler: VideoARScheduler,
    vae: AutoencoderVideoAR | None = None,
    strength: float = 1.0,
    generator: torch.Generator | None = None,
) -> MultiScaleMaps:
    """
    The maps of a batch, corrupted for Cross-Frame Error Correction, whatever the batch holds: pixels, features, or bits. The
    same clips give the same maps whichever it is, up to what the video tokenizer's arithmetic depends on the size of its batches.

    Args:
        batch (`dict`): From a [`data.sources.BatchSource`].
        scheduler ([`VideoARScheduler`]): Owns the scale schedule and the corruption.
        vae ([`AutoencoderVideoAR`], *optional*): Encodes `pixel_values`, in its own dtype or under the caller's autocast.
        strength (`float`, defaults to 1.0): Factor of the flip probabilities; 0 gives the clean maps.
        generator (`torch.Generator`, *optional*): For the flips, on the device of the batch.

    Returns:
        [`MultiScaleMaps`]: Target bits, corrupted latents and corrupted partial sums.

    Raises:
        `ValueError`: The batch holds bits alone, and they are to be corrupted.
    """
    features = batch_to_features(batch, vae)
    if features is not None:
        return scheduler.add_noise(features, generator, strength)
    if strength != 0:
        raise ValueError(
            "`strength` must be 0 for token shards without features, since targets are quantised again when earlier bits are"
            " flipped. Encode the data set with `--store_features`, or train without error correction."
        )
    return bits_to_maps(batch["bits"], tuple(tuple(bits.shape[2:4]) for bits in batch["bits"]))


def drop_words(captions: list[str], probability: float) -> list[str]:
    """
    Captions without some of their words, drawn from PyTorch's global generator, so that a caption that is seen in every epoch does not
    become the name of its clip. A caption of which no word would be left stays whole.
    """
    dropped = []
    for caption in captions:
        words = caption.split()
        kept = [word for word, draw in zip(words, torch.rand(len(words)).tolist()) if draw >= probability]
        dropped.append(" ".join(kept) or caption)
    return dropped


def batch_to_text(
    batch: dict[str, Any],
    text_tokenizer: PreTrainedTokenizerBase,
    text_encoder: nn.Module,
    max_sequence_length: int,
    train_text_encoder: bool = False,
    length_divisor: int = 1,
    word_drop_probability: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Text states `(B, N, C)` of a batch and their boolean mask `(B, N)`, `False` at padding: those that the batch holds, or its
    captions encoded. Where words are dropped, or the text encoder is trained, they are always encoded, in the latter case with
    gradients. `N` is `text_encoding.padded_text_length`.
    """
    if "text_states" in batch and not train_text_encoder and word_drop_probability == 0:
        longest = batch["text_mask"].shape[1]
        length = padded_text_length(longest, max(longest, max_sequence_length), length_divisor)
        return pad_text(batch["text_states"], batch["text_mask"], length)
    captions = batch["captions"]
    if word_drop_probability > 0:
        captions = drop_words(captions, word_drop_probability)
    with torch.set_grad_enabled(train_text_encoder):
        return encode_text(
            text_tokenizer,
            text_encoder,
            captions,
            max_sequence_length,
            padding="rounded",
            warns_of_cuts=False,
            length_divisor=length_divisor,
        )


# 2. Logits


def draw_dropped_texts(num_clips: int, options: TransformerStepOptions, device: torch.device) -> torch.Tensor:
    """`(B,)`, boolean: clips whose text is dropped, for classifier-free guidance."""
    return torch.rand(num_clips, device=device) < options.text_drop_probability


def predict_bits(
    transformer: VideoARTransformer3DModel,
    scheduler: VideoARScheduler,
    maps: MultiScaleMaps,
    text_states: torch.Tensor,
    text_mask: torch.Tensor,
    options: TransformerStepOptions,
    frame_conditions: dict[str, torch.Tensor] | None = None,
    text_drop_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Bit logits `(R * B, T * L, d)` of whole clips at once (teacher forcing), each under `R` texts: all clips under their first texts,
    then all under their second. What is drawn for a clip, dropped text and masked frames, is the same under all of its texts.

    Args:
        transformer ([`VideoARTransformer3DModel`]): May be wrapped for distributed training.
        scheduler ([`VideoARScheduler`]): Owns the scale schedule and what the maps read.
        maps ([`MultiScaleMaps`]): Of the clips, corrupted or not.
        text_states (`torch.Tensor` of shape `(R * B, N, C)`): Padded text.
        text_mask (`torch.Tensor` of shape `(R * B, N)`): `False` at padding.
        options ([`TransformerStepOptions`]): The mask, and the share of dropped texts.
        frame_conditions (`dict[str, torch.Tensor]`, *optional*):
            By name, the condition `(B, T, c)` of every latent frame. Where a text is dropped they are dropped with it.
        text_drop_mask (`torch.Tensor` of shape `(B,)`, *optional*): `True` where all texts of a clip are dropped; drawn if not given.

    Raises:
        `ValueError`: A condition is not that of as many latent frames.
    """
    num_clips, _, num_frames, *latent_size = maps.latents.shape
    num_texts = len(text_mask) // num_clips
    for name, condition in (frame_conditions or {}).items():
        if condition.shape[1] != num_frames:
            raise ValueError(
                f"`frame_conditions[{name!r}]` are of {condition.shape[1]} latent frames, but the clips have {num_frames}: give one"
                " for each."
            )
    scale_schedule = scheduler.get_scale_schedule(*latent_size)
    layout = sequence_layout(scale_schedule, num_frames, text_mask.shape[1], text_mask.device)
    if text_drop_mask is None:
        text_drop_mask = draw_dropped_texts(num_clips, options, text_mask.device)
    text_drop_mask = text_drop_mask.repeat(num_texts)
    # A dropped text is as long as the text that it stands for: for all texts of a clip, the first.
    text_mask = torch.where(text_drop_mask[:, None], text_mask[:num_clips].repeat(num_texts, 1), text_mask)
    attention_mask = training_attention_mask(
        layout,
        text_mask,
        options.attention,
        options.window,
        options.frame_mask_probability,
        options.frame_mask_drawn_per,
        num_clips,
    )
    if frame_conditions is not None:
        frame_conditions = {name: values.repeat(num_texts, 1, 1) for name, values in frame_conditions.items()}
    return transformer(
        scheduler.scale_clip_input(maps, scale_schedule).repeat(num_texts, 1, 1),
        layout.video_ids,
        text_states,
        text_mask,
        text_drop_mask,
        attention_mask=attention_mask,
        frame_conditions=frame_conditions,
        condition_drop_mask=text_drop_mask,
        return_dict=False,
    )[0]


# 3. Loss


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
    if weighting not in _AREA_EXPONENTS:
        raise ValueError(f"`weighting` must be one of {', '.join(SCALE_WEIGHTINGS)}, got {weighting!r}.")
    areas = torch.tensor([height * width for height, width in scale_schedule], device=device)
    weights = (areas.to(torch.float32) ** -_AREA_EXPONENTS[weighting]).repeat_interleave(areas)
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
    losses = F.binary_cross_entropy_with_logits(logits.float(), bits.float(), reduction="none")  # (B, T * L, d)
    weights = scale_weights(scale_schedule, weighting, logits.device)  # (L,)
    return (losses.mean(dim=-1).unflatten(1, (-1, len(weights))) * weights).mean()


def caption_contrast(
    logits: torch.Tensor, other_logits: torch.Tensor, bits: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Asks a clip to be likelier under its own caption than under another one (ours, not the paper's; condition contrastive alignment, Chen
    et al., arXiv 2410.09347, does so with a reference model): `tau * softplus(-margin / tau)` of the difference of the
    log-likelihoods, `tau` being `CONTRAST_TEMPERATURE`. A clip whose two texts are the same has no gradient.

    Args:
        logits (`torch.Tensor` of shape `(B, T * L, d)`): Bit logits under the own captions.
        other_logits (`torch.Tensor` of shape `(B, T * L, d)`): Under other ones.
        bits (`torch.Tensor` of shape `(B, T * L, d)`): Boolean targets.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: Scalar, nats per clip; and the margins `(B,)` in nats, without a graph.
    """
    targets = bits.float()
    own, other = (
        F.binary_cross_entropy_with_logits(values.float(), targets, reduction="none").sum(dim=(1, 2))
        for values in (logits, other_logits)
    )
    margins = other - own
    return CONTRAST_TEMPERATURE * F.softplus(-margins / CONTRAST_TEMPERATURE).mean(), margins.detach()


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


@torch.no_grad()
def caption_metrics(margins: torch.Tensor, has_two_texts: torch.Tensor) -> dict[str, float]:
    """
    Of the margins `(B,)` of [`caption_contrast`]: their mean in nats, and the share of clips whose own caption is likelier. Clips
    whose two texts are one, both dropped or alike, do not count; nothing is known of a batch of such.
    """
    margins = margins[has_two_texts]
    if len(margins) == 0:
        return {}
    return {"caption_margin": margins.mean().item(), "right_caption_likelier": (margins > 0).float().mean().item()}


# 4. The step


def transformer_step(
    batch: dict[str, Any],
    transformer: VideoARTransformer3DModel,
    scheduler: VideoARScheduler,
    vae: AutoencoderVideoAR,
    text_tokenizer: PreTrainedTokenizerBase,
    text_encoder: nn.Module,
    options: TransformerStepOptions,
    strength: float = 1.0,
) -> TransformerStepOutput:
    """
    The loss of a batch. Call it under the autocast of the run; the loss is float32 in any case. Random numbers (flips, dropped
    words and texts, masked frames) come from PyTorch's global generators.

    Args:
        batch (`dict`): From a [`data.sources.BatchSource`].
        transformer ([`VideoARTransformer3DModel`]): May be wrapped for distributed training.
        scheduler ([`VideoARScheduler`]): Owns the scale schedule and the corruption.
        vae ([`AutoencoderVideoAR`]): The video tokenizer, which is not trained.
        text_tokenizer (`PreTrainedTokenizerBase`): Of the text encoder.
        text_encoder (`nn.Module`): May be wrapped for distributed training.
        options ([`TransformerStepOptions`]): What to compute.
        strength (`float`, defaults to 1.0): Of Cross-Frame Error Correction, see [`corruption_strength`]; 0 trains on clean maps.

    Returns:
        [`TransformerStepOutput`]
    """
    maps = batch_to_maps(batch, scheduler, vae, strength)
    text_states, text_mask = batch_to_text(
        batch,
        text_tokenizer,
        text_encoder,
        options.max_sequence_length,
        options.train_text_encoder,
        options.text_length_divisor,
        options.word_drop_probability,
    )
    compares_captions = options.caption_contrast > 0
    if compares_captions:  # with the caption of the next clip
        text_states = torch.cat([text_states, text_states.roll(-1, dims=0)])
        text_mask = torch.cat([text_mask, text_mask.roll(-1, dims=0)])
    text_drop_mask = draw_dropped_texts(len(maps.latents), options, text_mask.device)
    frame_conditions = batch.get("frame_conditions")
    logits = predict_bits(
        transformer, scheduler, maps, text_states, text_mask, options, frame_conditions, text_drop_mask
    )
    target_bits = flatten_bits(maps.bits)  # (B, T * L, d)
    logits, *other_logits = logits.split(len(target_bits))
    scale_schedule = scheduler.get_scale_schedule(*maps.latents.shape[-2:])
    loss = bit_cross_entropy(logits, target_bits, scale_schedule, options.scale_weighting)
    margins = has_two_texts = None
    if compares_captions:
        contrast, margins = caption_contrast(logits, *other_logits, target_bits)
        loss = loss + options.caption_contrast * contrast
        captions = batch["captions"]
        differ = [own != other for own, other in zip(captions, [*captions[1:], captions[0]])]
        has_two_texts = torch.tensor(differ, device=text_drop_mask.device) & ~text_drop_mask
    return TransformerStepOutput(loss, logits, target_bits, scale_schedule, margins, has_two_texts)
