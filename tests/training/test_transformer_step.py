# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Claims about a training step of the transformer: its inputs, its loss, and where gradients go."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tests.tiny_components import make_tiny_pipeline, make_tiny_transformer
from videoar_pipelines.data.token_shards import round_features
from videoar_pipelines.models.quantization import features_to_maps, flatten_bits, sequence_inputs
from videoar_pipelines.models.text_encoding import encode_text
from videoar_pipelines.models.token_layout import sequence_layout
from videoar_pipelines.training.attention_masks import training_attention_mask
from videoar_pipelines.training.transformer_step import (
    TransformerStepOptions,
    batch_to_maps,
    batch_to_text,
    bit_cross_entropy,
    bit_metrics,
    caption_contrast,
    caption_metrics,
    corruption_strength,
    drop_words,
    scale_weights,
    transformer_step,
)


SCHEDULE = ((1, 1), (2, 2), (4, 4))  # 21 tokens
OPTIONS = TransformerStepOptions(max_sequence_length=16)


@pytest.fixture(scope="module")
def pipeline():
    pipeline = make_tiny_pipeline()
    pipeline.text_encoder.requires_grad_(False)
    pipeline.vae.requires_grad_(False)
    return pipeline


@pytest.fixture
def batch():
    pixels = torch.rand(2, 3, 9, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return {"pixel_values": pixels, "captions": ["a red circle", "a blue square moves to the right"]}


def run_step(pipeline, batch, options=OPTIONS, strength=0.0, seed=0, **components):
    torch.manual_seed(seed)
    arguments = {
        "transformer": pipeline.transformer,
        "scheduler": pipeline.scheduler,
        "vae": pipeline.vae,
        "text_tokenizer": pipeline.tokenizer,
        "text_encoder": pipeline.text_encoder,
    }
    return transformer_step(batch, **(arguments | components), options=options, strength=strength)


# 1. Batch to maps and text


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_maps_of_pixels_are_those_of_their_rounded_features(pipeline, batch, strength):
    features = round_features(pipeline.vae.encode(batch["pixel_values"]).latents)
    maps, expected = (
        batch_to_maps(source, pipeline.scheduler, pipeline.vae, strength, torch.Generator().manual_seed(1))
        for source in (batch, {"features": features})
    )
    direct = pipeline.scheduler.add_noise(features, torch.Generator().manual_seed(1), strength)
    for bits, expected_bits, direct_bits in zip(maps.bits, expected.bits, direct.bits):
        assert torch.equal(bits, expected_bits) and torch.equal(bits, direct_bits)
    assert torch.equal(maps.latents, expected.latents) and not maps.latents.requires_grad


def test_bits_alone_give_the_maps_of_their_features_and_refuse_corruption(pipeline, batch):
    clean = batch_to_maps(batch, pipeline.scheduler, pipeline.vae, strength=0.0)
    maps = batch_to_maps({"bits": clean.bits}, pipeline.scheduler, strength=0.0)
    assert torch.equal(maps.latents, clean.latents)
    with pytest.raises(ValueError, match="`strength` must be 0 for token shards without features"):
        batch_to_maps({"bits": clean.bits}, pipeline.scheduler, strength=0.5)


def test_text_states_of_a_batch_are_used_unless_the_text_encoder_is_trained(pipeline, batch):
    states, mask = encode_text(pipeline.tokenizer, pipeline.text_encoder, batch["captions"], 16, padding="rounded")
    stored = batch | {"text_states": states + 1, "text_mask": mask}
    arguments = (pipeline.tokenizer, pipeline.text_encoder, 16)
    assert torch.equal(batch_to_text(stored, *arguments)[0], stored["text_states"])
    for source, train_text_encoder in ((batch, False), (stored, True)):
        encoded, encoded_mask = batch_to_text(source, *arguments, train_text_encoder)
        assert torch.equal(encoded, states) and torch.equal(encoded_mask, mask)


def test_text_is_padded_to_the_longest_of_the_batch_rounded_up(pipeline, batch):
    longest = max(len(ids) for ids in pipeline.tokenizer(batch["captions"]).input_ids)
    arguments = (pipeline.tokenizer, pipeline.text_encoder, 512)
    states, mask = batch_to_text(batch, *arguments)
    assert longest <= 32 and states.shape[1] == 32 and mask.sum(dim=1).max() == longest
    stored = batch | {"text_states": states[:, :longest], "text_mask": mask[:, :longest]}
    padded, padded_mask = batch_to_text(stored, *arguments)
    assert padded.shape == states.shape and torch.equal(padded_mask, mask)


@pytest.mark.parametrize("drop_probability", [0.0, 1.0])
def test_padding_changes_neither_the_loss_nor_its_gradients(pipeline, batch, drop_probability):
    results = []
    for max_length in (8, 16):
        states, mask = encode_text(pipeline.tokenizer, pipeline.text_encoder, batch["captions"], 8)
        padding = max_length - states.shape[1]
        stored = {"text_states": F.pad(states, (0, 0, 0, padding), value=5.0), "text_mask": F.pad(mask, (0, padding))}
        pipeline.transformer.zero_grad()
        output = run_step(pipeline, batch | stored, replace(OPTIONS, text_drop_probability=drop_probability))
        output.loss.backward()
        gradients = [parameter.grad for _, parameter in pipeline.transformer.named_parameters()]
        results.append(
            [output.logits.detach(), output.loss.detach(), *(g.clone() for g in gradients if g is not None)]
        )
    pipeline.transformer.zero_grad(set_to_none=True)
    for one, other in zip(*results):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=3e-6)  # float32, summed in another order


def test_words_are_dropped_with_their_probability_and_in_order():
    torch.manual_seed(0)
    captions = ["one two three four five"] * 2000
    shorter = drop_words(captions, 0.3)
    kept = [caption.split() for caption in shorter]
    assert abs(sum(map(len, kept)) / 10_000 - 0.7) < 0.02  # four standard deviations are 0.018
    assert all(words == [word for word in captions[0].split() if word in words] for words in kept)
    assert drop_words(["one", ""], 1.0) == ["one", ""]


def test_dropped_words_are_missing_from_the_text_even_where_the_batch_has_text_states(pipeline, batch):
    arguments = (pipeline.tokenizer, pipeline.text_encoder, 16)
    states, mask = batch_to_text(batch, *arguments)
    stored = batch | {"text_states": states + 1, "text_mask": mask}
    torch.manual_seed(0)
    expected = drop_words(batch["captions"], 0.5)
    assert expected != batch["captions"]
    torch.manual_seed(0)
    dropped = batch_to_text(stored, *arguments, word_drop_probability=0.5)
    assert torch.equal(dropped[0], batch_to_text({"captions": expected}, *arguments)[0])


def test_corruption_rises_linearly_and_stays():
    assert [corruption_strength(step, 4) for step in (0, 1, 4, 9)] == [0.0, 0.25, 1.0, 1.0]
    assert corruption_strength(0, 0) == 1.0


# 2. Loss


def make_bits(generator_seed=0):
    generator = torch.Generator().manual_seed(generator_seed)
    return torch.rand(2, 2 * 21, 8, generator=generator) < 0.5


def test_undecided_logits_cost_log_two_whatever_the_weighting():
    for weighting in ("tokens", "sqrt_area", "scales"):
        loss = bit_cross_entropy(torch.zeros(2, 42, 8), make_bits(), SCHEDULE, weighting)
        assert math.isclose(loss.item(), math.log(2), rel_tol=1e-6)


def test_weights_have_mean_one_and_make_scales_equal_where_asked():
    per_scale = [part.sum() for part in scale_weights(SCHEDULE, "scales").split([1, 4, 16])]
    torch.testing.assert_close(torch.stack(per_scale), torch.full((3,), 7.0))
    torch.testing.assert_close(scale_weights(SCHEDULE, "sqrt_area").mean(), torch.tensor(1.0))
    assert scale_weights(SCHEDULE, "tokens").unique().tolist() == [1.0]
    with pytest.raises(ValueError, match="weighting"):
        scale_weights(SCHEDULE, "area")


def test_metrics_tell_a_wrong_bit_from_a_wrong_token():
    bits = make_bits()
    logits = torch.where(bits, 9.0, -9.0)
    logits[:, 21, 0] *= -1  # one bit of the first scale of the second frame
    metrics = bit_metrics(logits, bits, SCHEDULE)
    assert metrics["token_accuracy/scale_0"] == 0.5
    assert metrics["bit_accuracy/scale_0"] == pytest.approx(15 / 16)
    assert metrics["token_accuracy/frame_1"] == pytest.approx(20 / 21)
    assert metrics["token_accuracy/frame_0"] == metrics["token_accuracy/scale_2"] == 1
    assert metrics["loss/frame_1"] > metrics["loss/frame_0"]


def test_the_contrast_of_captions_is_the_softplus_of_the_margins_and_asks_nothing_of_equal_ones():
    bits = make_bits()
    logits = torch.where(bits, 1.0, -1.0).requires_grad_()
    other = logits.detach().clone()
    other[1] *= -1  # the other caption gets every bit of the second clip wrong
    other.requires_grad_()
    contrast, margins = caption_contrast(logits, other, bits)
    wrong_bit = 1.0  # what softplus(1) is more than softplus(-1)
    torch.testing.assert_close(margins, torch.tensor([0.0, wrong_bit * bits[1].numel()]), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(contrast, 20 * F.softplus(-margins / 20).mean())
    assert caption_metrics(margins, torch.tensor([True, True]))["right_caption_likelier"] == 0.5
    # A clip with the same text twice, as where it is dropped, says nothing of captions.
    expected = {"caption_margin": margins[1].item(), "right_caption_likelier": 1.0}
    assert caption_metrics(margins, torch.tensor([False, True])) == expected
    assert caption_metrics(margins, torch.tensor([False, False])) == {}
    contrast.backward()
    assert (logits.grad[0] == -other.grad[0]).all()  # of two equal captions they cancel, in whatever made the logits
    assert (logits.grad[1].abs().sum() < 1e-4) and (logits.grad[0] * torch.where(bits[0], 1.0, -1.0) < 0).all()


# 3. The step


@torch.no_grad()
def test_the_loss_is_the_cross_entropy_of_all_bits_in_the_order_of_generation(pipeline, batch):
    output = run_step(pipeline, batch)
    features = round_features(pipeline.vae.encode(batch["pixel_values"]).latents)
    schedule = pipeline.scheduler.get_scale_schedule(4, 4)
    maps = features_to_maps(features, schedule)
    assert output.scale_schedule == schedule
    in_order = [maps.bits[scale][:, frame].flatten(1, 2) for frame in range(3) for scale in range(len(schedule))]
    assert torch.equal(output.target_bits, torch.cat(in_order, dim=1))  # (B, T * L, d)
    by_hand = torch.where(output.target_bits, F.softplus(-output.logits), F.softplus(output.logits)).mean()
    torch.testing.assert_close(output.loss, by_hand, rtol=1e-6, atol=1e-6)  # another way to sum up


@torch.no_grad()
def test_the_logits_are_those_of_one_call_of_the_transformer(pipeline, batch):
    output = run_step(pipeline, batch)
    schedule = pipeline.scheduler.get_scale_schedule(4, 4)
    maps = features_to_maps(round_features(pipeline.vae.encode(batch["pixel_values"]).latents), schedule)
    states, mask = encode_text(pipeline.tokenizer, pipeline.text_encoder, batch["captions"], 16, padding="rounded")
    layout = sequence_layout(schedule, 3, states.shape[1], torch.device("cpu"))
    logits = pipeline.transformer(
        sequence_inputs(maps, schedule, pipeline.scheduler.config.previous_frame_context),
        layout.video_ids,
        states,
        mask,
        torch.zeros(2, dtype=torch.bool),
        attention_mask=training_attention_mask(layout, mask, "boolean"),
        return_dict=False,
    )[0]
    assert torch.equal(output.logits, logits)
    assert torch.equal(output.target_bits, flatten_bits(maps.bits))
    assert torch.equal(output.loss, bit_cross_entropy(logits, flatten_bits(maps.bits), schedule))


@torch.no_grad()
def test_the_same_random_numbers_give_the_same_loss_and_others_do_not(pipeline, batch):
    options = replace(OPTIONS, text_drop_probability=0.5, window=1, frame_mask_probability=0.5)
    losses = [run_step(pipeline, batch, options, strength=1.0, seed=seed).loss for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


@torch.no_grad()
@pytest.mark.parametrize(
    "changed", [{"window": 1}, {"frame_mask_probability": 1.0}, {"text_drop_probability": 1.0}], ids=str
)
def test_every_option_reaches_the_transformer(pipeline, batch, changed):
    plain, other = (run_step(pipeline, batch, options).logits for options in (OPTIONS, replace(OPTIONS, **changed)))
    frames = (plain != other).any(dim=-1).unflatten(1, (3, -1)).any(dim=(0, 2))
    # A window of one frame and masked frames leave the first frame, or the first two, as they are.
    assert (
        frames.tolist()
        == {
            "window": [False, False, True],
            "frame_mask_probability": [False, True, True],
            "text_drop_probability": [True, True, True],
        }[next(iter(changed))]
    )


@torch.no_grad()
def test_a_dropped_text_is_the_learned_null_text(pipeline, batch):
    options = replace(OPTIONS, text_drop_probability=1.0)
    # Two texts of one length: the null text is as long as the text that it stands for.
    red, green = (run_step(pipeline, batch | {"captions": [word] * 2}, options).logits for word in ("red", "green"))
    assert torch.equal(red, green)


def test_gradients_reach_what_is_trained_and_nothing_else(pipeline, batch):
    for train_text_encoder in (False, True):
        pipeline.transformer.zero_grad()
        pipeline.text_encoder.requires_grad_(train_text_encoder)
        run_step(pipeline, batch, replace(OPTIONS, train_text_encoder=train_text_encoder)).loss.backward()
        assert pipeline.transformer.proj_out.weight.grad.abs().sum() > 0
        for parameter in pipeline.text_encoder.parameters():
            assert (parameter.grad is not None) == train_text_encoder
        assert all(parameter.grad is None for parameter in pipeline.vae.parameters())
    pipeline.text_encoder.requires_grad_(False)


def test_the_loss_is_float32_under_autocast(pipeline, batch):
    with torch.autocast("cpu", torch.bfloat16):
        output = run_step(pipeline, batch)
    assert output.loss.dtype == torch.float32 and output.logits.dtype == torch.bfloat16
    with torch.no_grad():
        assert output.loss.item() == pytest.approx(run_step(pipeline, batch).loss.item(), rel=2e-2)  # eight bits


def contrast_of(pipeline, batch, **options):
    options = replace(OPTIONS, caption_contrast=1e-3, frame_mask_probability=0.5, **options)
    pipeline.transformer.zero_grad()
    output = run_step(pipeline, batch, options)
    output.loss.backward()
    gradient = pipeline.transformer.text_embedder.linear_1.weight.grad
    return output, None if gradient is None else gradient.clone()


def test_the_contrast_compares_every_clip_with_itself_under_the_next_caption(pipeline, batch):
    output, _ = contrast_of(pipeline, batch)
    plain = run_step(pipeline, batch, replace(OPTIONS, frame_mask_probability=0.5))
    torch.testing.assert_close(output.logits, plain.logits, rtol=1e-5, atol=1e-5)
    swapped = run_step(
        pipeline, batch | {"captions": batch["captions"][::-1]}, replace(OPTIONS, frame_mask_probability=0.5)
    )
    contrast, margins = caption_contrast(plain.logits, swapped.logits, plain.target_bits)
    torch.testing.assert_close(output.caption_margins, margins, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(output.loss, plain.loss + 1e-3 * contrast, rtol=1e-5, atol=1e-5)
    assert margins.abs().min() > 0.01
    pipeline.transformer.zero_grad(set_to_none=True)


def test_training_with_the_contrast_tells_captions_apart(batch):
    pipeline = make_tiny_pipeline()
    optimizer = torch.optim.Adam(pipeline.transformer.parameters(), 3e-3)
    margins = []
    for _ in range(15):
        optimizer.zero_grad()
        output = run_step(pipeline, batch, replace(OPTIONS, caption_contrast=0.1))
        output.loss.backward()
        optimizer.step()
        margins.append(output.caption_margins)
    metrics = caption_metrics(margins[-1], output.has_two_texts)
    assert margins[-1].min() > margins[0].max() + 20 and metrics["right_caption_likelier"] == 1


@pytest.mark.parametrize("same", [{"text_drop_probability": 1.0}, {"captions": ["a red circle"] * 2}], ids=str)
def test_where_both_captions_are_the_same_the_contrast_changes_no_gradient(pipeline, batch, same):
    same = dict(same)
    batch = batch | {"captions": same.pop("captions", batch["captions"])}
    output, _ = contrast_of(pipeline, batch, **same)
    assert output.caption_margins.abs().max() < 1e-3 and not output.has_two_texts.any()
    gradients = [p.grad.clone() for p in pipeline.transformer.parameters() if p.grad is not None]
    pipeline.transformer.zero_grad()
    run_step(pipeline, batch, replace(OPTIONS, frame_mask_probability=0.5, **same)).loss.backward()
    plain = [p.grad for p in pipeline.transformer.parameters() if p.grad is not None]
    for one, other in zip(gradients, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    pipeline.transformer.zero_grad(set_to_none=True)


# 4. Frame conditions


@pytest.fixture(scope="module")
def conditioned():
    torch.manual_seed(0)
    frame_conditions = {"action": {"vector_size": 2}, "room": {"num_labels": 3}}
    transformer = make_tiny_transformer(frame_conditions=frame_conditions)
    for embedder in transformer.condition_embedders.values():
        embedder.null.data.normal_()
    return transformer


@pytest.fixture
def conditions():
    action = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0))
    return {"action": action, "room": torch.tensor([[0.0, 1, 2], [2, 2, 2]])[..., None]}


@torch.no_grad()
def test_conditions_of_a_batch_reach_the_frames_that_they_are_of_and_later_ones(
    pipeline, conditioned, batch, conditions
):
    plain = run_step(pipeline, batch | {"frame_conditions": conditions}, transformer=conditioned).logits
    for name in conditions:
        changed = conditions | {name: conditions[name].clone()}
        changed[name][0, 1] = 1 - changed[name][0, 1].clamp(max=1)  # of the second frame of the first clip
        if name == "room":
            changed[name][0, 1] = 0
        other = run_step(pipeline, batch | {"frame_conditions": changed}, transformer=conditioned).logits
        differs = (plain != other).any(dim=-1).unflatten(1, (3, -1)).any(dim=2)
        assert differs.tolist() == [[False, True, True], [False, False, False]]


@torch.no_grad()
def test_conditions_are_dropped_with_the_text(pipeline, conditioned, batch, conditions):
    options = replace(OPTIONS, text_drop_probability=1.0)
    dropped = run_step(pipeline, batch | {"frame_conditions": conditions}, options, transformer=conditioned)
    none_given = run_step(pipeline, batch, options, transformer=conditioned)
    # The null is broadcast in another shape, which rounds differently.
    torch.testing.assert_close(dropped.logits, none_given.logits, rtol=1e-4, atol=1e-5)


def test_every_embedder_and_every_null_is_trained(pipeline, conditioned, batch, conditions):
    options = replace(OPTIONS, text_drop_probability=0.5)
    run_step(pipeline, batch | {"frame_conditions": conditions}, options, transformer=conditioned).loss.backward()
    for parameter in conditioned.condition_embedders.parameters():
        assert parameter.grad.abs().sum() > 0
    conditioned.zero_grad()


def test_conditions_of_another_number_of_latent_frames_are_refused(pipeline, conditioned, batch, conditions):
    shorter = conditions | {"action": conditions["action"][:, :2]}
    with pytest.raises(ValueError, match=r"`frame_conditions\['action'\]` are of 2 latent frames.*have 3"):
        run_step(pipeline, batch | {"frame_conditions": shorter}, transformer=conditioned)
