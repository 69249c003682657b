# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""What a user of diffusers expects of a video pipeline, on a CPU."""

import copy
import gc
import inspect
import random
import re
import warnings
import weakref

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.utils import export_to_video
from diffusers.utils.torch_utils import randn_tensor

from tests.tiny_components import make_tiny_pipeline
from tests.tiny_videos import PROMPT, assert_close_pixels, load, make_generator, sample
from videoar_pipelines import VideoARPipeline, VideoARScheduler
from videoar_pipelines.models.quantization import (
    accumulate,
    bits_to_maps,
    features_to_maps,
    pool_latents,
    sequence_inputs,
    tokens_per_frame,
)
from videoar_pipelines.models.token_layout import token_blocks, video_token_ids
from videoar_pipelines.pipelines.refinement import FrameRefiner
from videoar_pipelines.schedulers.scheduling_videoar import draw_uniform_noise


OTHER_PROMPT = "a blue square"
NUM_SCALES = 4  # of the latent grid 4x4
NUM_STEPS = 3 * NUM_SCALES


@pytest.fixture(scope="module")
def pipe():
    """Shared by tests that change nothing in it."""
    return make_tiny_pipeline()


@pytest.fixture
def own_pipe():
    return make_tiny_pipeline()


@pytest.fixture(scope="module")
def saved_pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    make_tiny_pipeline().save_pretrained(folder)
    return folder


# 1. Pipelines without some components


def test_without_models_a_pipeline_still_encodes_text(pipe, saved_pipeline):
    encoder = load(saved_pipeline, vae=None, transformer=None)
    assert (encoder.vae_scale_factor_spatial, encoder.vae_scale_factor_temporal) == (16, 4)
    embeds, negative, mask, _ = encoder.encode_prompt(PROMPT, do_classifier_free_guidance=False)
    assert negative is None and torch.equal(embeds, pipe.encode_prompt(PROMPT)[0]) and mask.all()


def test_without_text_encoder_and_tokenizer_a_pipeline_samples_latents_from_embeddings(pipe, saved_pipeline):
    sampler = load(saved_pipeline, text_encoder=None, tokenizer=None, vae=None)
    embeds = pipe.encode_prompt(PROMPT)[0]
    assert torch.equal(sample(sampler, None, prompt_embeds=embeds), sample(pipe))
    with pytest.raises(ValueError, match="need a text encoder.*pass `prompt_embeds`"):
        sampler(PROMPT, output_type="latent")
    with pytest.raises(ValueError, match="`output_type='np'` needs a `vae`.*pass 'latent'"):
        sampler(prompt_embeds=embeds)
    with pytest.raises(
        ValueError, match=re.escape("`refinements` need a `vae`") + ".*" + re.escape("`refinements=[]`")
    ):
        sample(sampler, None, prompt_embeds=embeds, refinements=[1])


# 2. Slices, tiles and compiled blocks


def test_slicing_and_tiling_of_the_decoder_are_reached_through_the_pipeline(pipe, own_pipe):
    arguments = {"num_videos_per_prompt": 2, "height": 64, "width": 96}
    expected = pipe(PROMPT, generator=make_generator(), **arguments).frames
    own_pipe.vae.enable_slicing()
    assert_close_pixels(own_pipe(PROMPT, generator=make_generator(), **arguments).frames, expected)
    own_pipe.vae.enable_tiling(64, 64, 32, 32)
    tiled = own_pipe(PROMPT, generator=make_generator(), **arguments).frames
    assert tiled.shape == expected.shape and not np.allclose(tiled, expected, atol=1e-5)
    # At the seams a tile sees zeros instead of its neighbour.
    assert np.abs(tiled - expected).mean() < 0.5 * expected.std()


def test_compiled_and_fused_blocks_make_the_same_video(pipe, own_pipe):
    own_pipe.transformer.fuse_qkv_projections()
    # The `eager` backend traces like any other and needs no C++ compiler.
    own_pipe.transformer.compile_repeated_blocks(fullgraph=True, dynamic=True, backend="eager")
    assert torch.equal(sample(own_pipe), sample(pipe))
    torch.compiler.reset()


# 3. Prompts, seeds and batches


def test_the_prompt_and_the_seed_decide_the_video(pipe):
    expected = sample(pipe)
    assert torch.equal(sample(pipe), expected)
    assert torch.equal(sample(pipe, f"  {PROMPT.replace(' ', '  ')}&nbsp;"), expected), "white space is not cleaned"
    assert not torch.equal(sample(pipe, seed=1), expected)
    assert not torch.equal(sample(pipe, OTHER_PROMPT), expected)
    assert not torch.equal(sample(pipe, generator=None), sample(pipe, generator=None))


def test_several_videos_of_a_prompt_are_as_many_prompts(pipe):
    generators = [make_generator(seed) for seed in range(4)]
    several = sample(pipe, [PROMPT, OTHER_PROMPT], num_videos_per_prompt=2, generator=generators)
    generators = [make_generator(seed) for seed in range(4)]
    listed = sample(pipe, [PROMPT, PROMPT, OTHER_PROMPT, OTHER_PROMPT], generator=generators)
    assert several.shape == (4, 8, 3, 4, 4) and torch.equal(several, listed)
    assert not torch.equal(several[0], several[1])
    same_seed = sample(pipe, num_videos_per_prompt=2)  # one generator gives each its own noise
    assert not torch.equal(same_seed[0], same_seed[1])


def test_a_generator_leaves_all_global_randomness_alone(pipe):
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    pipe(PROMPT, generator=make_generator())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]


def test_embeddings_take_the_place_of_prompts(pipe):
    prompts, negative = ["a red circle", PROMPT], "a black square"
    arguments = {"generator": [make_generator(1), make_generator(2)]}
    expected = sample(pipe, prompts, negative_prompt=negative, **arguments)
    embeds, negative_embeds, mask, negative_mask = pipe.encode_prompt(prompts, negative)
    arguments = {"generator": [make_generator(1), make_generator(2)]}
    given = sample(
        pipe,
        None,
        prompt_embeds=embeds,
        negative_prompt_embeds=negative_embeds,
        prompt_attention_mask=mask,
        negative_prompt_attention_mask=negative_mask,
        **arguments,
    )
    assert torch.equal(given, expected)


@pytest.mark.parametrize("negative_prompt", [None, "a black square"])
def test_embeddings_padded_on_request_have_one_shape_and_sample_the_same(pipe, negative_prompt):
    prompts = ["a red circle", PROMPT]
    names = ("prompt_embeds", "negative_prompt_embeds", "prompt_attention_mask", "negative_prompt_attention_mask")
    states = [pipe.encode_prompt(prompt, negative_prompt, padding="max_length") for prompt in prompts]
    assert [[tuple(item.shape) for item in of_prompt] for of_prompt in states] == [
        [(1, 16, 16)] * 2 + [(1, 16)] * 2
    ] * 2
    for prompt, of_prompt in zip(prompts, states):
        assert torch.equal(
            sample(pipe, None, **dict(zip(names, of_prompt))), sample(pipe, prompt, negative_prompt=negative_prompt)
        )


def test_given_embeddings_are_padded_as_well(pipe):
    names = ("prompt_embeds", "negative_prompt_embeds", "prompt_attention_mask", "negative_prompt_attention_mask")
    settings = {"max_sequence_length": 12, "padding": "max_length"}
    given = dict(zip(names, pipe.encode_prompt(PROMPT, "a black square")))
    padded, expected = (
        pipe.encode_prompt(None, **given, **settings),
        pipe.encode_prompt(PROMPT, "a black square", **settings),
    )
    assert all(map(torch.equal, padded, expected))
    assert pipe.encode_prompt(PROMPT, do_classifier_free_guidance=False, **settings)[1] is None


def test_padding_that_cannot_be_is_refused(pipe):
    with pytest.raises(ValueError, match="`padding` has to be 'longest' or 'max_length', got True"):
        pipe.encode_prompt(PROMPT, padding=True)
    with pytest.raises(
        ValueError, match="`prompt_embeds` has 9 tokens and cannot be padded to `max_sequence_length` = 8"
    ):
        pipe.encode_prompt(None, prompt_embeds=torch.zeros(1, 9, 16), max_sequence_length=8, padding="max_length")


def test_a_negative_prompt_takes_the_place_of_the_null_text(pipe):
    expected = sample(pipe, negative_prompt=OTHER_PROMPT)
    assert not torch.equal(expected, sample(pipe))
    null_text = pipe.transformer.null_text_embeds(1, pipe.encode_prompt(PROMPT)[0].shape[1])
    assert torch.equal(sample(pipe, negative_prompt_embeds=null_text), sample(pipe))
    both = sample(
        pipe,
        [PROMPT, PROMPT],
        negative_prompt=[OTHER_PROMPT, "green"],
        generator=[make_generator(), make_generator()],
    )
    assert torch.equal(both[:1], expected) and not torch.equal(both[1:], expected)


def test_long_prompts_are_cut_with_a_warning(pipe, caplog):
    short = "a red circle"  # three words, four tokens with the end
    expected = sample(pipe, short)
    assert not caplog.records
    assert torch.equal(sample(pipe, f"{short} moves to the right", max_sequence_length=4), expected)
    assert "`max_sequence_length` = 4" in caplog.text and "moves to the right" in caplog.text


def test_a_prompt_longer_than_the_transformer_takes_is_cut(pipe, caplog):
    assert sample(pipe, " ".join(["red"] * 30)).shape == (1, 8, 3, 4, 4)
    assert "`max_sequence_length` = 16" in caplog.text


# 4. Guidance and sampling


def record_batch_sizes(pipe):
    """Batch sizes of everything that goes through the first block, text included."""
    sizes = []
    handle = pipe.transformer.blocks[0].register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    return sizes, handle


@pytest.mark.parametrize(("guidance_scale", "batch_size"), [(None, 4), (1.5, 4), (1.0, 2), (0.0, 2)])
def test_without_guidance_the_second_branch_is_skipped(pipe, guidance_scale, batch_size):
    sizes, handle = record_batch_sizes(pipe)
    try:
        sample(pipe, [PROMPT, OTHER_PROMPT], guidance_scale=guidance_scale)
    finally:
        handle.remove()
    assert sizes == [batch_size] * (1 + NUM_STEPS)  # the text, and every map
    assert pipe.do_classifier_free_guidance == (batch_size == 4)


def test_guidance_moves_away_from_the_unconditional_branch(pipe):
    unguided = sample(pipe, guidance_scale=1.0)
    assert torch.equal(sample(pipe, guidance_scale=0.5), unguided)
    assert torch.equal(sample(pipe, guidance_scale=1.0, negative_prompt=OTHER_PROMPT), unguided)
    assert torch.equal(sample(pipe, guidance_scale=1 + 1e-9), unguided), "a hair of guidance leaves the prompt"
    assert not torch.equal(sample(pipe, guidance_scale=3.0), unguided)
    assert torch.equal(sample(pipe, guidance_scale=3.0), sample(pipe)), "the scheduler's guidance is the default"
    # Nothing to move away from: both branches read the same text.
    assert torch.equal(sample(pipe, negative_prompt=PROMPT, guidance_scale=3.0), unguided)


def test_the_guidance_schedule_of_the_scheduler_is_followed(pipe, own_pipe):
    own_pipe.scheduler = VideoARScheduler.from_config(pipe.scheduler.config, guidance_schedule="constant")
    assert not torch.equal(sample(own_pipe), sample(pipe))
    assert torch.equal(sample(own_pipe, guidance_scale=1.0), sample(pipe, guidance_scale=1.0))


def test_greedy_sampling_needs_no_seed(pipe):
    greedy = sample(pipe, temperature=0)
    assert torch.equal(sample(pipe, temperature=0, seed=1), greedy)
    assert torch.equal(sample(pipe, top_p=0.5, seed=1), greedy), "every bit has a value of at least one half"
    assert not torch.equal(sample(pipe), greedy)
    assert not torch.equal(sample(pipe, temperature=2.0), sample(pipe))
    assert not torch.equal(sample(pipe, temperature=[1.0, 1.0, 1.0, 0.0]), sample(pipe))


def test_sampling_options_of_the_scheduler_are_the_defaults(pipe, own_pipe):
    own_pipe.scheduler = VideoARScheduler.from_config(pipe.scheduler.config, temperature=0.5, top_p=0.8)
    assert torch.equal(sample(own_pipe), sample(pipe, temperature=0.5, top_p=0.8))
    assert torch.equal(sample(own_pipe, temperature=1.0, top_p=1.0), sample(pipe))


# 5. Sizes and outputs


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({}, (1, 9, 64, 64, 3)),
        ({"num_frames": 1}, (1, 1, 64, 64, 3)),
        ({"num_frames": 5, "height": 32, "width": 48}, (1, 5, 32, 48, 3)),
        ({"num_frames": 21, "height": 16, "width": 16, "num_videos_per_prompt": 2}, (2, 21, 16, 16, 3)),
    ],
)
def test_videos_have_the_size_that_is_asked_for(pipe, arguments, shape):
    video = pipe(PROMPT, **arguments).frames
    assert video.shape == shape and video.dtype == np.float32
    assert 0 <= video.min() and video.max() <= 1


def test_an_image_is_the_first_frame_of_the_video_with_the_same_seed(pipe):
    assert torch.equal(sample(pipe, num_frames=1), sample(pipe, num_frames=9)[:, :, :1])


def test_output_types_hold_the_same_video(pipe):
    array, tensor, images = (
        pipe([PROMPT, OTHER_PROMPT], generator=make_generator(), output_type=output_type).frames
        for output_type in ("np", "pt", "pil")
    )
    assert array.shape == (2, 9, 64, 64, 3) and tensor.shape == (2, 9, 3, 64, 64)
    np.testing.assert_array_equal(tensor.permute(0, 1, 3, 4, 2).numpy(), array)
    assert len(images) == 2 and len(images[0]) == 9 and isinstance(images[0][0], PIL.Image.Image)
    np.testing.assert_array_equal(np.asarray(images[1][3]), (array[1, 3] * 255).round().astype(np.uint8))


def test_a_tuple_holds_the_same_as_the_output_object(pipe):
    output = pipe(PROMPT, generator=make_generator(), return_dict=False)
    assert isinstance(output, tuple) and len(output) == 1
    np.testing.assert_array_equal(output[0], pipe(PROMPT, generator=make_generator()).frames)


def test_latents_decode_to_the_video(pipe):
    latents = sample(pipe)
    assert latents.shape == (1, 8, 3, 4, 4) and latents.dtype == torch.float32
    decoded = pipe.vae.decode(latents, return_dict=False)[0]
    expected = pipe(PROMPT, generator=make_generator(), output_type="pt").frames
    assert_close_pixels(pipe.video_processor.postprocess_video(decoded, output_type="pt"), expected)


def test_noise_given_as_latents_takes_the_place_of_the_generator(pipe):
    num_tokens = tokens_per_frame(pipe.scheduler.get_scale_schedule(4, 4))
    generator = make_generator(5)
    noise = torch.stack([draw_uniform_noise((1, num_tokens, 8), generator) for _ in range(3)], dim=1)
    assert torch.equal(sample(pipe, latents=noise, generator=None), sample(pipe, seed=5))
    # Noise below every probability makes every bit a one.
    ones = sample(pipe, latents=torch.zeros_like(noise))
    torch.testing.assert_close(ones, torch.full_like(ones, NUM_SCALES * 8**-0.5))


# 6. Refinement


def record_maps(pipe, **arguments):
    """Latents of a video, and the sum of the maps after every step."""
    sums = []

    def note(pipeline, step, timestep, callback_kwargs):
        sums.append(callback_kwargs["latents"].clone())
        return {}

    return sample(pipe, callback_on_step_end=note, **arguments), sums


@torch.no_grad()
def reencode_last(pipe, latents):
    """Features `(B, d, 1, H', W')` of the last latent frame, when the whole video is decoded and encoded again."""
    return pipe.vae.encode(pipe.vae.decode(latents).sample).latents[:, :, -1:]


def record_features(monkeypatch):
    """What every round of refinement encodes, `(B, d, H', W')`."""
    features, features_of = [], FrameRefiner.features_of

    def note(refiner, frame):
        features.append(features_of(refiner, frame))
        return features[-1]

    monkeypatch.setattr(FrameRefiner, "features_of", note)
    return features


@pytest.mark.parametrize("refinements", [[1], [3], [1, 3]])
def test_a_round_keeps_the_coarse_maps_of_the_frame_encoded_anew(pipe, refinements):
    latents, sums = record_maps(pipe, num_frames=1, refinements=refinements)
    schedule = pipe.scheduler.get_scale_schedule(4, 4)
    step = NUM_SCALES
    for num_maps in refinements:
        maps = features_to_maps(reencode_last(pipe, sums[step - 1][:, :, None]), schedule)
        kept = maps.partial_sums[NUM_SCALES - num_maps]
        bits = pool_latents(sums[step] - kept, schedule[NUM_SCALES - num_maps]).permute(0, 2, 3, 1) > 0
        torch.testing.assert_close(accumulate(kept, bits), sums[step])
        step += num_maps
    assert step == len(sums) and torch.equal(sums[-1], latents[:, :, 0])


@pytest.mark.parametrize("mode", [{}, {"window": 1}])
def test_a_round_encodes_a_frame_after_all_frames_before_it(pipe, monkeypatch, mode):
    features = record_features(monkeypatch)
    latents, sums = record_maps(pipe, num_frames=13, refinements=[2], **mode)
    num_steps = NUM_SCALES + 2
    for frame in range(4):
        unrefined = sums[frame * num_steps + NUM_SCALES - 1]
        video = torch.cat([latents[:, :, :frame], unrefined[:, :, None]], dim=2)
        torch.testing.assert_close(features[frame], reencode_last(pipe, video)[:, :, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("output_type, num_decoded", [("pt", 3 * (2 + 1)), ("latent", 3 * (2 + 1) - 1)])
def test_a_refined_frame_is_decoded_once_a_round_and_once_when_it_is_finished(pipe, output_type, num_decoded):
    decoded = []
    hook = pipe.vae.decoder.register_forward_hook(lambda module, inputs, output: decoded.append(inputs[0].shape[2]))
    sample(pipe, num_frames=9, refinements=[2, 1], output_type=output_type)
    hook.remove()
    assert decoded == [1] * num_decoded  # of the last frame nobody needs more than its latents


@pytest.mark.parametrize("guidance_scale", [3.0, 1.0])
def test_after_refinement_the_cache_holds_the_maps_of_the_frame_and_no_others(pipe, monkeypatch, guidance_scale):
    """As teacher forcing on the maps that were kept or sampled last would fill it."""
    caches, bits = [], []
    make_cache, step = pipe.transformer.make_cache, pipe.scheduler.step

    def keep_bits(*args, **kwargs):
        output = step(*args, **kwargs | {"return_dict": True})
        bits.append(output.bits)
        return output.prev_sample, output.bits

    monkeypatch.setattr(
        pipe.transformer, "make_cache", lambda **kwargs: caches.append(make_cache(**kwargs)) or caches[-1]
    )
    monkeypatch.setattr(pipe.scheduler, "step", keep_bits)
    arguments = {"num_frames": 5, "refinements": [2, 3], "guidance_scale": guidance_scale}
    latents, sums = record_maps(pipe, **arguments)
    (cache,) = caches
    schedule = pipe.scheduler.get_scale_schedule(4, 4)
    num_steps = len(sums) // 2
    frames = []
    for frame in range(2):
        # The second round, of three maps, began with the frame that the first one left.
        before = sums[frame * num_steps + num_steps - 4]
        video = torch.cat([latents[:, :, :frame], before[:, :, None]], dim=2)
        coarsest = features_to_maps(reencode_last(pipe, video), schedule).bits[0]
        sampled = bits[frame * num_steps + num_steps - 3 : (frame + 1) * num_steps]
        frames.append([coarsest, *(item[:, None] for item in sampled)])
    maps = bits_to_maps([torch.cat(pair, dim=1) for pair in zip(*frames)], schedule)
    expected = pipe.transformer.make_cache(
        batch_size=len(cache.keys[0]), text_length=cache.text_length, tokens_per_frame=30, num_frames=2
    )
    text = pipe.encode_prompt(PROMPT, do_classifier_free_guidance=guidance_scale > 1)[:2]
    pipe.transformer.encode_text(torch.cat([states for states in text if states is not None]), expected)
    inputs = sequence_inputs(maps, schedule).expand(len(cache.keys[0]), -1, -1)
    ids = video_token_ids(schedule, 2)
    pipe.transformer(
        inputs, ids, attention_mask=expected.maps_attention_mask(token_blocks(ids, NUM_SCALES)), kv_cache=expected
    )
    assert cache.num_written == expected.num_written == 60
    # The text and the maps of both frames; attention over other shapes may round differently.
    torch.testing.assert_close(cache.keys, expected.keys, atol=1e-5, rtol=0)
    torch.testing.assert_close(cache.values, expected.values, atol=1e-5, rtol=0)


def test_refined_videos_have_the_first_maps_of_plain_ones_and_differ_later(pipe):
    _, plain = record_maps(pipe, num_frames=1)
    _, refined = record_maps(pipe, num_frames=1, refinements=[1], generator=make_generator())
    noise = draw_uniform_noise((1, 30 + 16, 8), make_generator())
    assert len(refined) == NUM_SCALES + 1 and torch.equal(refined[0], plain[0])
    assert torch.equal(sample(pipe, num_frames=1, refinements=[1], latents=noise[:, None])[:, :, 0], refined[-1])
    with pytest.raises(ValueError, match=re.escape("has to have the shape (1, 1, 46, 8)")):
        sample(pipe, num_frames=1, refinements=[1], latents=noise[:, None, :30])


def test_refinement_is_an_option_of_the_scheduler_and_of_the_call(pipe, own_pipe):
    own_pipe.scheduler = VideoARScheduler.from_config(own_pipe.scheduler.config, refinements=[2])
    refined = sample(own_pipe)
    assert torch.equal(refined, sample(pipe, refinements=[2])) and not torch.equal(refined, sample(pipe))
    assert torch.equal(sample(own_pipe, refinements=[]), sample(pipe))
    with pytest.raises(ValueError, match=re.escape("`refinements` is [4]: a round samples at least 1 and at most 3")):
        sample(pipe, refinements=[4])


def test_steps_of_refinement_are_counted_and_called_back(pipe):
    calls = []

    def note(pipeline, step, timestep, callback_kwargs):
        calls.append((step, int(timestep)))
        assert pipeline.num_timesteps == 3 * (NUM_SCALES + 2)
        return {}

    sample(pipe, refinements=[2], callback_on_step_end=note)
    timesteps = [4 * frame + scale for frame in range(3) for scale in (0, 1, 2, 3, 2, 3)]
    assert calls == list(enumerate(timesteps))


def test_videos_are_exported_with_the_tools_of_diffusers(pipe, tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    path = export_to_video(pipe(PROMPT).frames[0], str(tmp_path / "video.mp4"), fps=8)
    assert (tmp_path / "video.mp4").stat().st_size > 0 and path.endswith("video.mp4")


# 7. Callbacks


def test_a_callback_is_called_after_every_map(pipe):
    calls = []

    def note(pipeline, step, timestep, callback_kwargs):
        assert pipeline is pipe and callback_kwargs.keys() == {"latents"}
        assert pipeline.current_timestep == step and pipeline.num_timesteps == NUM_STEPS
        calls.append((step, int(timestep), callback_kwargs["latents"].clone()))
        return {}

    latents = sample(pipe, callback_on_step_end=note)
    assert [call[:2] for call in calls] == [(step, step) for step in range(NUM_STEPS)]
    for frame in range(3):
        assert torch.equal(calls[(frame + 1) * NUM_SCALES - 1][2], latents[:, :, frame])
    assert pipe.current_timestep is None


def test_a_callback_gets_the_tensors_it_asks_for(pipe):
    shapes = {}

    def note(pipeline, step, timestep, callback_kwargs):
        shapes.update({name: tuple(tensor.shape) for name, tensor in callback_kwargs.items()})
        return callback_kwargs

    names = pipe._callback_tensor_inputs
    latents = sample(
        pipe,
        [PROMPT, PROMPT],
        num_videos_per_prompt=2,
        callback_on_step_end=note,
        callback_on_step_end_tensor_inputs=names,
    )
    text_shape = (4, 8, 16)
    assert shapes == {"latents": (4, 8, 4, 4), "prompt_embeds": text_shape, "negative_prompt_embeds": text_shape}
    assert torch.equal(latents, sample(pipe, [PROMPT, PROMPT], num_videos_per_prompt=2))


def test_latents_that_a_callback_returns_replace_the_frame(pipe):
    frozen = torch.randn(1, 8, 4, 4, generator=make_generator())

    def replace(pipeline, step, timestep, callback_kwargs):
        return {"latents": frozen} if step == NUM_SCALES - 1 else callback_kwargs

    replaced, expected = sample(pipe, callback_on_step_end=replace), sample(pipe)
    assert torch.equal(replaced[:, :, 0], frozen)
    assert not torch.equal(replaced[:, :, 1], expected[:, :, 1]), "the next frame did not read the replaced one"


def test_text_that_a_callback_returns_replaces_the_prompt(pipe):
    new = dict(
        zip(("prompt_embeds", "negative_prompt_embeds"), pipe.encode_prompt("a blue square left down up white black"))
    )
    names = ["prompt_embeds", "negative_prompt_embeds"]

    def replace_after_the_first_frame(text):
        def replace(pipeline, step, timestep, callback_kwargs):
            assert callback_kwargs.keys() == set(names)
            return {name: text[name].clone() for name in text} if step == NUM_SCALES - 1 else {}

        return sample(
            pipe,
            "a red circle moves to the right",
            callback_on_step_end=replace,
            callback_on_step_end_tensor_inputs=names,
        )

    expected = sample(pipe)
    old = dict(zip(names, pipe.encode_prompt(PROMPT)))
    assert torch.equal(replace_after_the_first_frame(old), expected)
    for changed in ({"prompt_embeds": new["prompt_embeds"][:, :8]}, {"negative_prompt_embeds": old["prompt_embeds"]}):
        replaced = replace_after_the_first_frame(changed)
        assert torch.equal(replaced[:, :, 0], expected[:, :, 0])
        assert not torch.equal(replaced[:, :, 1:], expected[:, :, 1:])


@pytest.mark.parametrize("off", [0.0, 1.0])  # 0 is what `SDCFGCutoffCallback` of diffusers sets
def test_guidance_can_be_changed_in_flight(own_pipe, off):
    def switch_off_after_the_first_frame(pipeline, step, timestep, callback_kwargs):
        if step == NUM_SCALES - 1:
            pipeline._guidance_scale = off
        return callback_kwargs

    guided = sample(own_pipe)
    changed = sample(own_pipe, callback_on_step_end=switch_off_after_the_first_frame)
    assert torch.equal(changed[:, :, 0], guided[:, :, 0])

    # The unguided rest of the video, from the same first frame.
    def replace_the_first_frame(pipeline, step, timestep, callback_kwargs):
        return {"latents": guided[:, :, 0]} if step == NUM_SCALES - 1 else callback_kwargs

    del own_pipe.transformer.blocks[
        :
    ]  # without blocks a map sees its own input alone, so the caches of both are alike
    guided = sample(own_pipe)
    changed = sample(own_pipe, callback_on_step_end=switch_off_after_the_first_frame)
    unguided = sample(own_pipe, guidance_scale=1.0, callback_on_step_end=replace_the_first_frame)
    assert torch.equal(changed, unguided)


class FreezeFirstFrame(PipelineCallback):
    tensor_inputs = ["latents"]

    def callback_fn(self, pipeline, step_index, timestep, callback_kwargs):
        if step_index == 3:
            callback_kwargs["latents"] = torch.zeros_like(callback_kwargs["latents"])
        return callback_kwargs


class RaiseGuidance(PipelineCallback):
    tensor_inputs = ["prompt_embeds"]

    def callback_fn(self, pipeline, step_index, timestep, callback_kwargs):
        pipeline._guidance_scale += 1
        return callback_kwargs


def test_callback_objects_of_diffusers_name_their_own_tensors(pipe):
    frozen = sample(pipe, callback_on_step_end=FreezeFirstFrame())
    assert not frozen[:, :, 0].any() and frozen[:, :, 1].any()
    both = sample(pipe, callback_on_step_end=MultiPipelineCallbacks([FreezeFirstFrame(), RaiseGuidance()]))
    assert not both[:, :, 0].any() and not torch.equal(both, frozen)
    assert pipe.guidance_scale == 3.0 + NUM_STEPS
    assert torch.equal(sample(pipe, callback_on_step_end=FreezeFirstFrame()), frozen), "guidance is set anew by a call"


@pytest.mark.parametrize(("last_step", "num_latent_frames"), [(5, 1), (6, 1), (7, 2), (8, 2), (NUM_STEPS - 1, 3)])
def test_interrupting_gives_the_frames_that_are_finished(pipe, last_step, num_latent_frames):
    steps = []

    def interrupt(pipeline, step, timestep, callback_kwargs):
        steps.append(step)
        pipeline._interrupt = step == last_step
        return callback_kwargs

    latents = sample(pipe, callback_on_step_end=interrupt)
    assert steps == list(range(last_step + 1))
    assert torch.equal(latents, sample(pipe)[:, :, :num_latent_frames])
    video = pipe(PROMPT, callback_on_step_end=interrupt).frames
    assert video.shape[1] == 4 * (num_latent_frames - 1) + 1


def test_interrupting_the_first_frame_gives_it_unfinished(pipe):
    def interrupt(pipeline, step, timestep, callback_kwargs):
        pipeline._interrupt = True
        return callback_kwargs

    latents = sample(pipe, callback_on_step_end=interrupt)
    assert latents.shape == (1, 8, 1, 4, 4)
    # Only the first map, one token, is in it.
    torch.testing.assert_close(latents.abs(), torch.full_like(latents, 8**-0.5))
    assert sample(pipe).shape == (1, 8, 3, 4, 4), "the next call is not interrupted"


# 8. Calls leave nothing behind


def test_calls_do_not_depend_on_earlier_ones(pipe):
    video = pipe(PROMPT, generator=make_generator()).frames
    pipe([OTHER_PROMPT] * 2, num_frames=21, height=32, width=48, guidance_scale=1.0, temperature=0)
    np.testing.assert_array_equal(pipe(PROMPT, generator=make_generator()).frames, video)


def test_a_call_that_fails_does_not_spoil_the_next(pipe):
    expected = sample(pipe)

    def fail(pipeline, step, timestep, callback_kwargs):
        if step == 5:
            raise RuntimeError("stop")
        return callback_kwargs

    with pytest.raises(RuntimeError, match="stop"):
        sample(pipe, callback_on_step_end=fail)
    assert torch.equal(sample(pipe), expected)


def test_the_cache_of_a_call_is_freed_with_it(own_pipe, monkeypatch):
    caches, make_cache = [], own_pipe.transformer.make_cache

    def make_noted_cache(*args, **kwargs):
        cache = make_cache(*args, **kwargs)
        caches.append(weakref.ref(cache))
        return cache

    monkeypatch.setattr(own_pipe.transformer, "make_cache", make_noted_cache)
    video = own_pipe(PROMPT, output_type="pt").frames
    gc.collect()
    assert len(caches) == 1 and caches[0]() is None
    assert not video.requires_grad


def test_components_are_not_changed_by_a_call(pipe):
    modules = {name: getattr(pipe, name) for name in ("text_encoder", "vae", "transformer")}

    def snapshot():
        weights = {name: copy.deepcopy(module.state_dict()) for name, module in modules.items()}
        attributes = {
            (name, path): {key: repr(value) for key, value in vars(module).items() if not key.startswith("_")}
            for name, root in modules.items()
            for path, module in root.named_modules()
        }
        return weights, attributes

    weights, attributes = snapshot()
    pipe(PROMPT)
    new_weights, new_attributes = snapshot()
    assert new_attributes == attributes
    for name in modules:
        assert all(torch.equal(new_weights[name][key], value) for key, value in weights[name].items())


# 9. Manners


def test_a_call_prints_and_warns_nothing(pipe, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe(PROMPT)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_the_progress_bar_counts_the_maps(own_pipe, capsys):
    own_pipe.set_progress_bar_config(disable=False, desc="sampling")
    own_pipe(PROMPT)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "sampling: 100%" in captured.err and f"{NUM_STEPS}/{NUM_STEPS}" in captured.err


@pytest.mark.parametrize("name", ["__init__", "__call__", "encode_prompt"])
def test_every_argument_is_documented(name):
    method = getattr(VideoARPipeline, name)
    documentation = VideoARPipeline.__doc__ if name == "__init__" else method.__doc__
    names = [parameter for parameter in inspect.signature(method).parameters if parameter != "self"]
    documented = re.findall(r"^ +(\w+) \(", documentation.split("Args:")[1], flags=re.MULTILINE)
    assert names == documented[: len(names)]
    if name == "__call__":
        assert ">>> video = pipe(" in documentation and "Returns:" in documentation


# 10. Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"height": 72}, "`height` has to be a multiple of 16, got 72. The nearest that work are 64 and 80"),
        ({"width": 8}, "`width` has to be a multiple of 16, got 8. The nearest that work are 16 and 32"),
        ({"num_frames": 8}, r"`num_frames` has to be 4 \* n \+ 1, got 8. The nearest that work are 5 and 9"),
        ({"num_frames": 0}, r"`num_frames` has to be 4 \* n \+ 1, got 0. The nearest that work are 1 and 5"),
        ({"num_videos_per_prompt": 0}, "`num_videos_per_prompt` has to be at least 1, got 0"),
        ({"window": 0}, "`window` has to be at least 1 latent frame, or `None` for all, got 0"),
        ({"output_type": "mp4"}, "`output_type` has to be 'np', 'pt', 'pil' or 'latent', got 'mp4'"),
        (
            {"callback_on_step_end_tensor_inputs": ["latents", "kv_cache"]},
            r"`callback_on_step_end_tensor_inputs` has to be in \['latents', .*\], but found \['kv_cache'\]",
        ),
        ({"prompt": None}, "exactly one of `prompt` and `prompt_embeds`"),
        ({"prompt_embeds": torch.zeros(1, 4, 16)}, "exactly one of `prompt` and `prompt_embeds`"),
        ({"prompt": 3}, r"`prompt` has to be of type `str` or `list\[str\]`, got <class 'int'>"),
        ({"prompt": []}, "`prompt` is an empty list"),
        ({"negative_prompt": 3}, r"`negative_prompt` has to be of type `str` or `list\[str\]`, got <class 'int'>"),
        (
            {"negative_prompt": "a", "negative_prompt_embeds": torch.zeros(1, 4, 16)},
            "at most one of `negative_prompt` and `negative_prompt_embeds`",
        ),
        (
            {"negative_prompt": ["a", "a"]},
            "`negative_prompt` has 2 entries for 1 prompts. Pass one string, or a list of 1",
        ),
        ({"negative_prompt_embeds": torch.zeros(2, 4, 16)}, "`negative_prompt_embeds` has 2 entries for 1 prompts"),
        ({"max_sequence_length": 17}, "`max_sequence_length` has to be between 1 and 16, got 17"),
        ({"max_sequence_length": 0}, "`max_sequence_length` has to be between 1 and 16, got 0"),
        ({"temperature": -1.0}, r"`temperature` has to be at least 0 \(greedy\), got -1.0"),
        ({"temperature": [1.0, -0.5]}, r"`temperature` has to be at least 0 \(greedy\), got \[1.0, -0.5\]"),
        ({"top_p": 0.0}, r"`top_p` has to be above 0 and at most 1 \(off\), got 0.0"),
        ({"top_p": 90}, r"`top_p` has to be above 0 and at most 1 \(off\), got 90"),
        (
            {"generator": [make_generator()], "num_videos_per_prompt": 2},
            "`generator` is a list of 1, but 2 videos are asked for. Pass one generator, or a list of 2",
        ),
        (
            {"latents": torch.rand(1, 8, 3, 4, 4)},
            r"`latents` has to have the shape \(1, 3, 30, 8\), got \(1, 8, 3, 4, 4\)",
        ),
        (
            {"latents": randn_tensor((1, 3, 30, 8), generator=make_generator())},
            r"`latents` has to be uniform noise in \[0, 1\], as from `torch.rand`, got values from -",
        ),
    ],
)
def test_what_cannot_work_is_named_with_its_value_and_what_would(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipe(**({"prompt": PROMPT} | arguments))


def test_a_size_of_more_scales_than_the_transformer_knows_is_refused(pipe):
    transformer = copy.deepcopy(pipe.transformer)
    transformer.register_to_config(max_scales=2)
    message = "`height` 64 and `width` 64 take 4 scales, and the transformer knows 2: pass a smaller size, such as `height=64"
    with pytest.raises(ValueError, match=message):
        VideoARPipeline(**pipe.components | {"transformer": transformer})(PROMPT, height=64, width=64)


def test_embeddings_longer_than_the_longest_text_are_refused(pipe):
    with pytest.raises(ValueError, match="the longest text of this model is 16 tokens"):
        pipe(prompt_embeds=torch.zeros(1, 17, 16))
