# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Videos that begin with a given image."""

import inspect

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny_components import make_tiny_pipeline, make_tiny_transformer
from videoar_pipelines import VideoARImageToVideoPipeline, VideoARPipeline, VideoARVideoToVideoPipeline


PROMPT = "a red circle moves to the right"


@pytest.fixture(scope="module")
def text_pipe():
    return make_tiny_pipeline()


@pytest.fixture(scope="module")
def pipe(text_pipe):
    pipe = VideoARImageToVideoPipeline.from_pipe(text_pipe)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make_image(seed=0, height=64, width=64):
    """Smooth, so that resizing keeps it recognisable; `(height, width, 3)` levels."""
    noise = torch.rand(1, 3, 4, 4, generator=generator(seed))
    image = torch.nn.functional.interpolate(noise, size=(height, width), mode="bicubic", align_corners=True)[0]
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def reconstruct(pipe, images):
    """What the tokenizer makes of images `(B, height, width, 3)` in [0, 1]: `(B, 1, 3, height, width)` in [0, 1]."""
    video = torch.as_tensor(images).permute(0, 3, 1, 2).unsqueeze(2) * 2 - 1
    with torch.no_grad():
        schedule = pipe.scheduler.get_scale_schedule(video.shape[-2] // 16, video.shape[-1] // 16)
        latents = pipe.vae.quantize(pipe.vae.encode(video).latents, schedule).latents
        return pipe.vae.decode(latents).sample.transpose(1, 2) / 2 + 0.5


# 1. The image


def test_the_video_begins_with_the_image_as_the_tokenizer_reconstructs_it(pipe):
    image = make_image()
    video = pipe(Image.fromarray(image), PROMPT, num_frames=9, generator=generator(), output_type="pt").frames
    assert video.shape == (1, 9, 3, 64, 64)
    expected = reconstruct(pipe, image[None] / np.float32(255))
    torch.testing.assert_close(video[:, :1], expected, atol=1e-5, rtol=0)


def test_what_follows_depends_on_the_image_and_on_the_prompt(pipe):
    def sample(seed, prompt):
        image = Image.fromarray(make_image(seed))
        return pipe(image, prompt, num_frames=5, generator=generator(), output_type="latent").frames

    latents = sample(0, PROMPT)
    assert torch.equal(latents, sample(0, PROMPT))
    assert not torch.equal(latents[:, :, 1], sample(1, PROMPT)[:, :, 1])
    other_prompt = sample(0, "a blue square")
    assert torch.equal(latents[:, :, 0], other_prompt[:, :, 0])
    assert not torch.equal(latents[:, :, 1], other_prompt[:, :, 1])


@pytest.mark.parametrize(
    "convert",
    [
        lambda image: image.astype(np.float32) / 255,
        lambda image: torch.from_numpy(image).permute(2, 0, 1) / 255,
        lambda image: torch.from_numpy(image).permute(2, 0, 1)[None] / 255,
        lambda image: [Image.fromarray(image)],
        lambda image: Image.fromarray(image).convert("RGBA"),
    ],
    ids=["array", "tensor", "batch", "list", "with alpha"],
)
def test_an_image_may_come_in_any_form(pipe, convert):
    image = make_image()
    arguments = {"prompt": PROMPT, "num_frames": 5, "output_type": "latent"}
    expected = pipe(Image.fromarray(image), generator=generator(), **arguments).frames
    assert torch.equal(pipe(convert(image), generator=generator(), **arguments).frames, expected)


@pytest.mark.parametrize("height, width", [(64, 96), (96, 64), (32, 32), (128, 200)])
def test_an_image_of_another_size_is_resized_to_cover_the_frame_and_cropped(pipe, height, width):
    image = make_image(height=height, width=width)
    latents = pipe(Image.fromarray(image), PROMPT, num_frames=5, generator=generator(), output_type="latent").frames
    scale = max(64 / height, 64 / width)
    covering = Image.fromarray(image).resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    left, top = (covering.width - 64) // 2, (covering.height - 64) // 2
    cropped = covering.crop((left, top, left + 64, top + 64))
    expected = pipe(cropped, PROMPT, num_frames=5, generator=generator(), output_type="latent").frames
    # Pillow rounds to levels; a few bits whose features are near zero may turn.
    assert ((latents - expected)[:, :, 0].abs() > 1e-6).float().mean() < 0.05


# 2. Batches


def test_an_image_animated_alone_is_the_one_animated_in_a_batch(pipe):
    images = [Image.fromarray(make_image(0)), Image.fromarray(make_image(1, 80, 100))]
    prompts = [PROMPT, "a blue square"]
    batch = pipe(images, prompts, num_frames=9, generator=[generator(3), generator(4)], output_type="latent").frames
    for index in range(2):
        alone = pipe(
            images[index], prompts[index], num_frames=9, generator=generator(3 + index), output_type="latent"
        ).frames
        assert torch.equal(alone[0], batch[index])


def test_one_image_goes_with_several_prompts_and_one_prompt_with_several_images(pipe):
    images = [Image.fromarray(make_image(seed)) for seed in range(2)]
    prompts = [PROMPT, "a blue square"]
    arguments = {"num_frames": 5, "output_type": "latent"}

    def generators():
        return [generator(3), generator(4)]

    one_image = pipe(images[0], prompts, generator=generators(), **arguments).frames
    assert torch.equal(one_image, pipe([images[0]] * 2, prompts, generator=generators(), **arguments).frames)
    one_prompt = pipe(images, PROMPT, generator=generators(), **arguments).frames
    assert torch.equal(one_prompt, pipe(images, [PROMPT] * 2, generator=generators(), **arguments).frames)
    assert not torch.equal(one_image[1], one_prompt[1])


def test_several_videos_for_each_image_stand_side_by_side(pipe):
    images = [Image.fromarray(make_image(seed)) for seed in range(2)]
    prompts = [PROMPT, "a blue square"]
    generators = [generator(seed) for seed in range(4)]
    latents = pipe(
        images, prompts, num_frames=5, num_videos_per_prompt=2, generator=generators, output_type="latent"
    ).frames
    assert latents.shape == (4, 8, 2, 4, 4)
    alone = pipe(images[1], prompts[1], num_frames=5, generator=generator(2), output_type="latent").frames
    assert torch.equal(latents[2], alone[0])
    assert torch.equal(latents[2, :, 0], latents[3, :, 0]) and not torch.equal(latents[2], latents[3])


# 3. Like the text pipeline


@pytest.mark.parametrize("output_type", ["np", "pt", "pil", "latent"])
def test_a_stream_gives_the_image_first_and_then_the_video_of_a_call(pipe, output_type):
    image = Image.fromarray(make_image())
    arguments = {"prompt": PROMPT, "num_frames": 9, "output_type": output_type}
    whole = pipe(image, generator=generator(), **arguments).frames
    chunks = list(pipe.stream(image, generator=generator(), **arguments))
    if output_type == "latent":
        assert torch.equal(torch.cat(chunks, dim=2), whole)
        return
    assert [len(chunk[0]) for chunk in chunks] == [1, 4, 4]
    streamed, whole = (
        np.stack([np.asarray(frame, dtype=np.float32) for frame in frames])
        for frames in ([frame for chunk in chunks for frame in chunk[0]], whole[0])
    )
    tolerance = 1 if output_type == "pil" else 1e-5  # one level
    np.testing.assert_allclose(streamed, whole, atol=tolerance, rtol=0)


def test_only_the_maps_behind_the_image_are_sampled_and_reported(pipe):
    steps = []

    def note_step(pipeline, step, timestep, callback_kwargs):
        steps.append((step, int(timestep), callback_kwargs["latents"].shape))
        return callback_kwargs

    pipe(Image.fromarray(make_image()), PROMPT, num_frames=9, callback_on_step_end=note_step)
    num_scales = len(pipe.scheduler.get_scale_schedule(4, 4))
    assert pipe.num_timesteps == 2 * num_scales
    assert steps == [(step, step + num_scales, (1, 8, 4, 4)) for step in range(2 * num_scales)]


def test_randomness_begins_behind_the_image(pipe):
    image = Image.fromarray(make_image())
    drawn = pipe(image, PROMPT, num_frames=9, generator=generator(), output_type="latent").frames
    source = generator()
    noise = torch.stack([torch.rand(1, 30, 8, generator=source) for _ in range(2)], dim=1)
    given = pipe(image, PROMPT, num_frames=9, latents=noise, output_type="latent").frames
    assert torch.equal(given, drawn)


def test_interrupting_in_the_first_sampled_frame_returns_the_image(pipe):
    def interrupt(pipeline, step, timestep, callback_kwargs):
        pipeline._interrupt = True
        return callback_kwargs

    image = Image.fromarray(make_image())
    video = pipe(image, PROMPT, num_frames=9, callback_on_step_end=interrupt, output_type="pt").frames
    assert video.shape[1] == 1


def test_as_many_frames_as_the_text_pipeline_makes_unless_told(pipe, text_pipe):
    image = Image.fromarray(make_image())
    (video,) = pipe(image, PROMPT, return_dict=False)
    assert video.shape == text_pipe(PROMPT).frames.shape


def test_the_arguments_are_those_of_the_text_pipeline_behind_the_image(pipe, text_pipe):
    for method in ("__call__", "stream"):
        parameters = list(inspect.signature(getattr(pipe, method)).parameters)
        assert parameters[:2] == ["image", "prompt"]
        assert set(parameters) == {"image", *inspect.signature(getattr(text_pipe, method)).parameters} - {"video"}


# 4. Moving between pipelines


def test_pipelines_are_made_of_each_other_without_copying_weights():
    text_pipe = make_tiny_pipeline().to(torch.bfloat16)
    text_pipe.vae.to(torch.float32)
    pipe = VideoARImageToVideoPipeline.from_pipe(text_pipe)
    continuation = VideoARVideoToVideoPipeline.from_pipe(pipe)
    back = VideoARPipeline.from_pipe(continuation)
    for made in (pipe, continuation, back, VideoARImageToVideoPipeline(**text_pipe.components)):
        assert made.components.keys() == text_pipe.components.keys()
        assert all(made.components[name] is component for name, component in text_pipe.components.items())
    assert back.transformer.dtype == torch.bfloat16 and back.vae.dtype == torch.float32
    assert type(back) is VideoARPipeline and type(continuation) is VideoARVideoToVideoPipeline


def test_from_pipe_casts_when_it_is_told_to_and_takes_other_components():
    text_pipe = make_tiny_pipeline()
    scheduler = type(text_pipe.scheduler)(guidance_scale=7.0)
    assert VideoARImageToVideoPipeline.from_pipe(text_pipe, scheduler=scheduler).scheduler is scheduler
    assert VideoARImageToVideoPipeline.from_pipe(text_pipe, dtype=torch.bfloat16).transformer.dtype == torch.bfloat16


def test_a_saved_text_pipeline_loads_as_an_image_pipeline(pipe, text_pipe, tmp_path):
    text_pipe.save_pretrained(tmp_path)
    loaded = VideoARImageToVideoPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    image = Image.fromarray(make_image())
    expected = pipe(image, PROMPT, num_frames=5, generator=generator(), output_type="latent").frames
    assert torch.equal(
        loaded(image, PROMPT, num_frames=5, generator=generator(), output_type="latent").frames, expected
    )


# 5. What cannot work

IMAGE = make_image().astype(np.float32) / 255


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"prompt": ["red", "blue", "green"], "image": [IMAGE, IMAGE]},
            "`image` has 2 entries for 3 prompts. Pass one, or 3",
        ),
        ({"image": [IMAGE] * 2, "generator": [None] * 3}, "`generator` is a list of 3, but 2 videos"),
        (
            {"image": IMAGE, "num_frames": 1},
            "`num_frames` counts the 1 given frames.*got 1. The smallest that works is 5",
        ),
        ({"image": IMAGE, "num_frames": 6}, "`num_frames` has to be 4 \\* n \\+ 1, got 6"),
        ({"image": IMAGE, "height": 40}, "`height` has to be a multiple of 16, got 40"),
        ({"image": IMAGE, "latents": torch.rand(1, 3, 30, 8)}, "`latents` has to have the shape \\(1, 2, 30, 8\\)"),
        ({"image": IMAGE * 255}, "`image` as arrays or tensors has to be in \\[0, 1\\].*Divide"),
        ({"image": IMAGE * np.nan}, "`image` as arrays or tensors has to be in \\[0, 1\\]"),
        ({"image": IMAGE[..., :2]}, "`image` has to hold RGB frames"),
        ({"image": "circle.png"}, "`image` cannot be read as images"),
        ({"image": []}, "`image` is an empty list"),
        ({"image": None}, "`image` cannot be read as images"),
    ],
)
def test_what_cannot_work_is_named_with_its_value_and_what_would(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipe(**({"prompt": PROMPT} | arguments))


def test_an_image_for_a_pipeline_without_a_tokenizer_is_refused(text_pipe):
    pipe = VideoARImageToVideoPipeline(**(text_pipe.components | {"vae": None}))
    with pytest.raises(ValueError, match="`image` needs a `vae`"):
        pipe(IMAGE, PROMPT, output_type="latent")


def test_one_text_is_for_all_given_images(pipe):
    images = [Image.fromarray(make_image(seed)) for seed in (0, 1)]
    arguments = {"num_frames": 9, "output_type": "pt"}
    expected = pipe(images, PROMPT, generator=[generator(0), generator(1)], **arguments).frames
    embeds, negative_embeds, mask, negative_mask = pipe.encode_prompt(PROMPT)
    states = {"prompt_embeds": embeds, "prompt_attention_mask": mask}
    states |= {"negative_prompt_embeds": negative_embeds, "negative_prompt_attention_mask": negative_mask}
    given = pipe(images, [PROMPT], generator=[generator(0), generator(1)], **arguments).frames
    assert torch.equal(given, expected)
    given = pipe(images, generator=[generator(0), generator(1)], **states, **arguments).frames
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=0)

    stream = pipe.stream(images, "a blue square", generator=[generator(0), generator(1)], **arguments)
    stream.set_prompt(PROMPT)
    torch.testing.assert_close(torch.cat(list(stream), dim=1)[:, :1], expected[:, :1], atol=1e-5, rtol=0)


def test_conditions_are_of_all_given_frames_at_least(text_pipe):
    components = text_pipe.components | {
        "transformer": make_tiny_transformer(frame_conditions={"action": {"vector_size": 3}})
    }
    pipe = VideoARVideoToVideoPipeline(**components)
    video = [Image.fromarray(make_image(seed)) for seed in range(9)]
    with pytest.raises(ValueError, match=r"`frame_conditions\['action'\]` has 2 latent frames, but `video` gives 3"):
        pipe.stream(video, PROMPT, frame_conditions={"action": torch.zeros(1, 2, 3)})
    assert next(pipe.stream(video, PROMPT, frame_conditions={"action": torch.zeros(1, 3, 3)})).shape[1] == 1


def test_whole_numbers_of_numpy_are_whole_numbers(pipe):
    image, arguments = Image.fromarray(make_image()), {"num_frames": 13, "output_type": "pt"}
    videos = [
        pipe(image, PROMPT, reencode_at=number, generator=generator(), **arguments).frames
        for number in (2, np.int64(2))
    ]
    assert torch.equal(*videos)
