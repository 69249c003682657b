# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0

import io

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F
from accelerate import cpu_offload
from peft import LoraConfig, get_peft_model_state_dict
from transformers import T5Config, T5EncoderModel

from tests.infinitystar_fixtures import expected as tokenizer_expected
from tests.infinitystar_runs import (
    GRID,
    RecordedRun,
    make_public_transformer,
    make_run_pipeline,
    make_run_scheduler,
    recorded,
    run_text,
)
from tests.tiny_components import make_tiny_tokenizer
from videoar_pipelines import InfinityStarPipeline
from videoar_pipelines.models.quantization_infinitystar import clip_bits_to_latents, quantize_clip
from videoar_pipelines.pipelines.infinitystar.clip_sampler import ClipSampler, ClipSamplerState, TextBranch
from videoar_pipelines.pipelines.infinitystar.given_frames import cropped_share, load_frames, nearest_shape
from videoar_pipelines.schedulers.scheduling_infinitystar import draw_bit_noise


SEED = 41


def make_generator(seed: int = SEED) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sample(pipeline: InfinityStarPipeline, **arguments) -> np.ndarray | torch.Tensor | list:
    """The recorded prompt and seed, two clips after the first frame, as latents; `arguments` replace these."""
    defaults = {"num_frames": 17, "output_type": "latent"}
    if "prompt" not in arguments:
        defaults["prompt_embeds"] = run_text()
    if "generator" not in arguments:
        defaults["generator"] = make_generator()
    return pipeline(**(defaults | arguments)).frames


def join(chunks: list, output_type: str):
    """The chunks of a stream along time."""
    if output_type == "pil":
        return [sum(frames, []) for frames in zip(*chunks)]
    if output_type == "np":
        return np.concatenate(chunks, axis=1)
    return torch.cat(chunks, dim=2 if output_type == "latent" else 1)


def is_same(first, second) -> bool:
    if isinstance(first, list):
        return all(
            np.array_equal(np.asarray(a), np.asarray(b))
            for mine, theirs in zip(first, second, strict=True)
            for a, b in zip(mine, theirs, strict=True)
        )
    return np.array_equal(np.asarray(first), np.asarray(second))


def video_frames(number: int) -> list[PIL.Image.Image]:
    """The first frames of the recorded clip."""
    video = tokenizer_expected()["video_u8"][:, :number]  # (3, F, 64, 112)
    return [PIL.Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in video.unbind(dim=1)]


@pytest.fixture(scope="module")
def pipe():
    return make_run_pipeline()


@pytest.fixture
def own_pipe():
    """A pipeline that the test may change."""
    return make_run_pipeline()


@pytest.fixture(scope="module")
def pipe_with_text():
    """The same with a text encoder of random weights."""
    pipeline, tokenizer = make_run_pipeline(), make_tiny_tokenizer()
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=48, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    pipeline.register_modules(tokenizer=tokenizer, text_encoder=T5EncoderModel(config).eval())
    return pipeline


# 1. The reference


@pytest.mark.parametrize(
    ("name", "options"),
    [("t2v_apg", {}), ("t2v_cfg", {"guidance_scale": 3.0, "guidance_type": "plain", "video_temperature": 0.5})],
)
@pytest.mark.parametrize("sequential", [False, True], ids=["branches together", "one after the other"])
def test_text_to_video_draws_every_bit_of_the_reference(pipe, name, options, sequential):
    run = RecordedRun.load(name)
    options = options | {"image_temperature": run.options.image_temperature}
    latents = sample(pipe, sequential_guidance=sequential, **options)
    # One other bit would change a sum by a tenth or more.
    assert (latents - run.latents).abs().max() <= 1e-6


def test_pixels_are_those_of_the_reference(pipe):
    video = sample(pipe, output_type="pt")[0].permute(0, 2, 3, 1).flip(-1) * 255  # (F, height, width, 3), BGR
    assert video.shape == (17, 64, 112, 3)
    # They are cut to whole numbers there; a value next to one may fall on either side.
    for frame, expected in zip((1, 16), recorded()["pixels_bgr_u8"][0]):
        assert (video[frame] - expected.float()).min() > -0.01
        assert (video[frame] - expected.float()).max() < 1.01


@pytest.mark.parametrize("name", ["unguided", "negative"])
def test_other_guidance_draws_every_bit_of_the_reference(own_pipe, name):
    run = RecordedRun.load(name)
    options = {
        "num_frames": 1,
        "guidance_type": run.options.guidance_type,
        "guidance_scale": run.options.guidance_scale,
    }
    if name == "negative":
        # There a shorter negative prompt leaves tokens of zeros that are attended to. Here padding is masked; for the comparison
        # the zeros are put in.
        negative = recorded()["negative.text.negative_features"][None]
        options["negative_prompt_embeds"] = F.pad(negative, (0, 0, 0, 4))

        def put_zeros_in(module, inputs, output):
            output[1, 9:] = 0
            return output

        own_pipe.transformer.text_embedder.register_forward_hook(put_zeros_in)
    latents = sample(own_pipe, image_temperature=run.options.image_temperature, **options)
    assert (latents - run.latents).abs().max() <= 1e-6


# 2. Given frames


def make_sampler(run: RecordedRun, generator: torch.Generator) -> ClipSampler:
    model = make_public_transformer()
    branches = [
        TextBranch(embeds, torch.ones(1, 13, dtype=torch.bool))
        for embeds in (run_text(), model.null_text_embeds(1, 13))
    ]
    return ClipSampler(model, make_run_scheduler(), run.clips, run.options, branches, generator)


@torch.no_grad()
@pytest.mark.parametrize(("name", "features"), [("i2v", "image.features"), ("v2v", "prefix.features")])
def test_a_continuation_draws_every_bit_of_the_reference(name, features):
    # The features are the reference's, which it draws from the posterior.
    run = RecordedRun.load(name)
    sampler = make_sampler(run, make_generator(run.seed))
    lengths = [clip[0].grid[0] for clip in run.clips[: run.num_forced_clips]]
    clips = [sampler.force_clip(clip) for clip in recorded()[features].split(lengths, dim=2)]
    while not sampler.has_ended:
        clips.append(sampler.sample_clip())
    assert (torch.cat(clips, dim=2) - run.latents).abs().max() <= 1e-6


@torch.no_grad()
@pytest.mark.parametrize(("name", "features"), [("i2v", "image.features"), ("v2v", "prefix.features")])
def test_skipping_the_forced_passes_equals_running_all_of_them(name, features):
    run = RecordedRun.load(name)
    skipping, running = (make_sampler(run, make_generator(run.seed)) for _ in range(2))
    scheduler, num_calls = make_run_scheduler(), []
    skipping.transformer.register_forward_hook(lambda *_: num_calls.append(1))
    lengths = [clip[0].grid[0] for clip in run.clips[: run.num_forced_clips]]
    for number, clip in enumerate(recorded()[features].split(lengths, dim=2)):
        skipping.force_clip(clip)
        # All passes, as the reference runs them: each draws bits and throws them away.
        passes = run.clips[number]
        bits = quantize_clip(clip, [item.bit_pass for item in passes]).bits
        for count, item in enumerate(passes):
            total = clip_bits_to_latents(bits[:count], 64, GRID) if count else torch.zeros_like(clip)
            inputs = scheduler.scale_model_input(total, item).expand(2, -1, -1)
            running.transformer(inputs, [item], kv_cache=running.caches[0], keep_map=item.is_last_of_clip)
            draw_bit_noise((1, item.num_tokens, item.num_bits, 2), running.generator)
        running.clip += 1
    assert len(num_calls) == run.num_forced_clips
    for mine, theirs in zip(skipping.caches[0].layer_caches, running.caches[0].layer_caches):
        assert all(map(torch.equal, mine.get(), theirs.get()))
    assert torch.equal(skipping.generator.get_state(), running.generator.get_state())
    assert torch.equal(skipping.sample_clip(), running.sample_clip())


def count_calls(pipeline: InfinityStarPipeline, **arguments) -> int:
    """How often the transformer runs."""
    calls = []
    hook = pipeline.transformer.register_forward_hook(lambda *_: calls.append(1))
    sample(pipeline, **arguments)
    hook.remove()
    return len(calls)


def test_an_image_runs_one_pass_and_a_video_one_pass_a_clip(own_pipe):
    assert count_calls(own_pipe, num_frames=1) == 10
    assert count_calls(own_pipe, num_frames=9) == 10 + 9
    assert count_calls(own_pipe, image=video_frames(1)[0], num_frames=9) == 1 + 9
    assert count_calls(own_pipe, video=video_frames(9), num_frames=17) == 2 + 9


def test_given_frames_come_first_as_the_tokenizer_reconstructs_them(pipe):
    frames = video_frames(9)
    for given in ({"image": frames[0], "num_frames": 9}, {"video": frames, "num_frames": 17}):
        latents, video = (sample(pipe, output_type=kind, **given) for kind in ("latent", "pt"))
        num_given = 1 if "image" in given else 9
        decoded = pipe.vae.decode(latents[:, :, : (num_given - 1) // 4 + 1]).sample / 2 + 0.5
        assert (video[:, :num_given] - decoded.movedim(1, 2)).abs().max() <= 1e-5
        assert torch.equal(latents, sample(pipe, **given))  # nothing of them is drawn
    image = sample(pipe, image=frames[0], num_frames=9)
    continued = sample(pipe, video=frames, num_frames=17)
    assert torch.equal(image[:, :, 0], continued[:, :, 0])  # the tokenizer is causal


def test_an_image_may_be_an_array_or_a_tensor(pipe):
    image = video_frames(1)[0]
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255
    expected = sample(pipe, image=image, num_frames=9)
    for other in (array, array.astype(np.float32) / 255, tensor, [tensor], tensor[None]):
        assert torch.equal(sample(pipe, image=other, num_frames=9), expected)
    video = video_frames(9)
    expected = sample(pipe, video=video)
    batch = torch.stack(
        [torch.from_numpy(np.asarray(frame).copy()).permute(2, 0, 1) for frame in video]
    )  # (F, 3, h, w)
    for other in ([video], batch, batch[None], np.stack([np.asarray(frame) for frame in video])):
        assert torch.equal(sample(pipe, video=other), expected)


def test_a_picture_of_another_size_is_covered_and_cropped():
    image = PIL.Image.fromarray(np.arange(60 * 100 * 3, dtype=np.uint32).astype(np.uint8).reshape(60, 100, 3))
    loaded = load_frames([image], 64, 112)
    assert loaded.shape == (3, 1, 64, 112) and loaded.min() >= -1 and loaded.max() <= 1
    # 60x100 covers 64x112 as 67x112: one row is cut off above, two below.
    resized = np.asarray(image.resize((112, 67), PIL.Image.Resampling.LANCZOS))[1:65]
    assert torch.equal(loaded[:, 0], torch.from_numpy(resized / 255).permute(2, 0, 1).float() * 2 - 1)
    tensor = torch.rand(3, 32, 56)
    assert load_frames([tensor], 64, 112).shape == (3, 1, 64, 112)
    assert torch.equal(load_frames([tensor], 32, 56)[:, 0], tensor * 2 - 1)


def test_the_nearest_shape_goes_by_the_ratio_of_the_sides():
    sizes = [(480, 848), (640, 640), (848, 480)]
    assert nearest_shape((1080, 1920), sizes) == (480, 848)
    assert nearest_shape((500, 450), sizes) == (640, 640)
    assert nearest_shape((1920, 1080), sizes) == (848, 480)
    assert cropped_share((100, 200), (100, 100)) == pytest.approx(0.5)
    assert cropped_share((300, 100), (100, 100)) == pytest.approx(2 / 3)


# 3. Streams


@pytest.mark.parametrize("output_type", ["latent", "pt", "np", "pil"])
def test_streamed_equals_whole(pipe, output_type):
    arguments = {"prompt_embeds": run_text(), "num_frames": 17, "output_type": output_type}
    chunks = list(pipe.stream(**arguments, generator=make_generator()))
    assert len(chunks) == 3
    whole = sample(pipe, output_type=output_type)
    assert is_same(join(chunks, output_type), whole)
    if output_type == "np":
        assert whole.shape == (1, 17, 64, 112, 3) and [chunk.shape[1] for chunk in chunks] == [1, 8, 8]


@pytest.mark.parametrize("num_clips", [1, 2])
@pytest.mark.parametrize("generators", ["one", "a list"])
def test_a_resumed_stream_equals_one_that_was_not_interrupted(pipe, num_clips, generators):
    arguments = {"prompt_embeds": run_text().expand(2, -1, -1), "num_frames": 17, "output_type": "pt"}

    def make_generators(seed):
        return make_generator(seed) if generators == "one" else [make_generator(seed), make_generator(seed + 1)]

    whole = pipe(**arguments, generator=make_generators(7)).frames
    with pipe.stream(**arguments, generator=make_generators(7)) as stream:
        begun = [next(stream) for _ in range(num_clips)]
        file = io.BytesIO()
        torch.save(vars(stream.state()), file)
    file.seek(0)
    state = ClipSamplerState(**torch.load(file))
    resumed = pipe.stream(**arguments, generator=make_generators(0), resume_from=state)
    rest = list(resumed)
    assert len(rest) == 3 - num_clips
    assert torch.equal(torch.cat(begun + rest, dim=1), whole)


def test_a_resumed_continuation_goes_on_after_its_given_frames(pipe):
    arguments = {"prompt_embeds": run_text(), "num_frames": 17, "output_type": "latent", "image": video_frames(1)[0]}
    whole = pipe(**arguments, generator=make_generator()).frames
    stream = pipe.stream(**arguments, generator=make_generator())
    begun = [next(stream), next(stream)]
    resumed = pipe.stream(**arguments, generator=make_generator(), resume_from=stream.state())
    assert torch.equal(torch.cat([*begun, *resumed], dim=2), whole)


def test_streams_may_take_turns(pipe):
    arguments = {"num_frames": 17, "output_type": "latent", "prompt_embeds": run_text()}
    streams = [pipe.stream(**arguments, generator=make_generator(seed), guidance_scale=seed) for seed in (3, 9)]
    chunks = list(zip(*streams))
    for index, seed in enumerate((3, 9)):
        alone = pipe(**arguments, generator=make_generator(seed), guidance_scale=seed).frames
        assert torch.equal(torch.cat([pair[index] for pair in chunks], dim=2), alone)


def test_a_closed_stream_has_no_more_chunks(pipe):
    stream = pipe.stream(prompt_embeds=run_text(), num_frames=17)
    with stream:
        next(stream)
    assert stream.is_closed and list(stream) == [] and stream.num_passes == 0
    stream.close()
    with pytest.raises(ValueError, match="`state` was called before the first clip or after the end"):
        stream.state()


def test_a_stream_that_raised_has_ended_and_says_so(own_pipe):
    def cancel(pipeline, step, timestep, tensors):
        if step == 20:
            raise KeyboardInterrupt
        return tensors

    arguments = {"prompt_embeds": run_text(), "num_frames": 17, "output_type": "latent"}
    stream = own_pipe.stream(**arguments, generator=make_generator(), callback_on_step_end=cancel)
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    assert stream.is_closed
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"ended with an error \(KeyboardInterrupt: \). Call `stream`"):
            next(stream)


def test_an_interrupted_video_has_its_finished_clips(own_pipe):
    whole = sample(own_pipe)

    def interrupt_at(last_step):
        def callback(pipeline, step, timestep, tensors):
            assert timestep == step
            pipeline._interrupt = step == last_step
            return tensors

        return callback

    for last_step, num_latents in ((9, 1), (12, 1), (18, 3), (27, 5)):
        latents = sample(own_pipe, callback_on_step_end=interrupt_at(last_step))
        assert torch.equal(latents, whole[:, :, :num_latents])
    assert sample(own_pipe, callback_on_step_end=interrupt_at(3)) == []
    assert torch.equal(sample(own_pipe), whole)


# 4. Batches and options


def test_alone_equals_in_a_batch_with_a_longer_prompt(pipe):
    short = run_text()[:, :9] + 0.5
    alone = [
        sample(pipe, prompt_embeds=short, generator=make_generator(1)),
        sample(pipe, generator=make_generator(2)),
    ]
    mask = torch.ones(2, 13, dtype=torch.bool)
    mask[0, 9:] = False
    embeds = torch.cat([F.pad(short, (0, 0, 0, 4)), run_text()])
    for sequential in (False, True):
        batch = sample(
            pipe,
            prompt_embeds=embeds,
            prompt_attention_mask=mask,
            generator=[make_generator(1), make_generator(2)],
            sequential_guidance=sequential,
        )
        assert torch.equal(batch, torch.cat(alone))


def test_a_negative_prompt_may_have_another_length(pipe):
    negative = torch.randn(1, 5, 48, generator=make_generator())
    mask = torch.tensor([[True] * 5 + [False] * 4])
    expected = sample(pipe, negative_prompt_embeds=negative)
    assert not torch.equal(expected, sample(pipe))
    padded = F.pad(negative, (0, 0, 0, 4), value=3.0)
    for sequential in (False, True):
        latents = sample(
            pipe,
            negative_prompt_embeds=padded,
            negative_prompt_attention_mask=mask,
            sequential_guidance=sequential,
        )
        assert torch.equal(latents, expected)


def test_several_videos_of_a_prompt_are_those_of_their_generators(pipe):
    videos = sample(pipe, num_videos_per_prompt=2, num_frames=1, generator=[make_generator(1), make_generator(2)])
    for seed, video in zip((1, 2), videos):
        assert torch.equal(sample(pipe, num_frames=1, generator=make_generator(seed))[0], video)


def test_images_and_prompts_of_a_batch_go_together(pipe):
    images = [video_frames(9)[0], video_frames(9)[8]]
    text = torch.cat([run_text(), run_text().flip(1)])
    batch = sample(
        pipe, prompt_embeds=text, image=images, num_frames=9, generator=[make_generator(), make_generator()]
    )
    for index in range(2):
        alone = sample(pipe, prompt_embeds=text[index : index + 1], image=images[index], num_frames=9)
        assert torch.equal(batch[index : index + 1], alone)


def test_the_progress_bar_counts_the_passes_that_are_sampled(own_pipe, monkeypatch):
    totals = []
    progress_bar = own_pipe.progress_bar
    monkeypatch.setattr(own_pipe, "progress_bar", lambda total: totals.append(total) or progress_bar(total=total))
    steps = []
    sample(own_pipe, callback_on_step_end=lambda pipeline, step, timestep, tensors: steps.append(step) or tensors)
    sample(own_pipe, image=video_frames(1)[0])
    assert totals == [28, 18] and steps == list(range(28))
    assert own_pipe.num_timesteps == 18


def test_a_callback_may_replace_the_sum(own_pipe):
    def callback(pipeline, step, timestep, tensors):
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 9 else tensors

    latents = sample(own_pipe, callback_on_step_end=callback)
    assert latents[:, :, 0].abs().max() == 0 and latents[:, :, 1:].abs().max() > 0


def test_a_shorter_last_clip_works(pipe):
    latents = sample(pipe, num_frames=13)
    assert latents.shape == (1, 64, 4, *GRID)
    assert torch.equal(latents[:, :, :3], sample(pipe)[:, :, :3])


# 5. Text


def test_prompts_are_completed_and_encoded(pipe_with_text):
    pipe = pipe_with_text
    completed = "<<<t=1s>>>a red circle, Close-up on big objects, emphasize scale and detail"
    assert pipe.add_hints("a red circle", 17) == completed
    assert pipe.add_hints("a red circle", 1) == "a red circle, Close-up on big objects, emphasize scale and detail"
    by_hint = sample(pipe, prompt="a red circle")
    embeds, _, mask, _ = pipe.encode_prompt(completed)
    assert torch.equal(by_hint, sample(pipe, prompt_embeds=embeds, prompt_attention_mask=mask))
    assert not torch.equal(by_hint, sample(pipe, prompt="a red circle", add_prompt_hints=False))


def test_prompts_of_a_batch_draw_what_they_draw_alone(pipe_with_text):
    prompts = ["a red circle", "a green square moves to the left and to the right"]
    batch = sample(pipe_with_text, prompt=prompts, generator=[make_generator(), make_generator()])
    for prompt, latents in zip(prompts, batch):
        assert torch.equal(sample(pipe_with_text, prompt=prompt)[0], latents)
    negative = sample(
        pipe_with_text, prompt=prompts, negative_prompt="blue", generator=[make_generator(), make_generator()]
    )
    assert not torch.equal(negative, batch)


@pytest.mark.parametrize("negative_prompt", [None, "blue"])
def test_embeddings_padded_on_request_have_one_shape_and_draw_the_same(pipe_with_text, negative_prompt):
    pipe, longest = pipe_with_text, pipe_with_text.transformer.config.max_text_length
    names = ("prompt_embeds", "negative_prompt_embeds", "prompt_attention_mask", "negative_prompt_attention_mask")
    arguments = {"negative_prompt": negative_prompt, "add_prompt_hints": False}
    for prompt in ("a red circle", "a green square moves to the left"):
        states = pipe.encode_prompt(prompt, negative_prompt, padding="max_length")
        assert [tuple(item.shape) for item in states] == [(1, longest, 48)] * 2 + [(1, longest)] * 2
        assert torch.equal(sample(pipe, **dict(zip(names, states))), sample(pipe, prompt=prompt, **arguments))
    with pytest.raises(ValueError, match="`padding` has to be 'longest' or 'max_length', got 'left'"):
        pipe.encode_prompt("a red circle", padding="left")


def test_the_text_encoder_can_be_freed():
    pipeline, tokenizer = make_run_pipeline(), make_tiny_tokenizer()
    config = T5Config(vocab_size=len(tokenizer), d_model=48, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    pipeline.register_modules(tokenizer=tokenizer, text_encoder=T5EncoderModel(config).eval())
    expected = sample(pipeline, prompt="a red circle", num_frames=1)
    prompt = pipeline.add_hints("a red circle", 1)
    prompt_embeds, negative_prompt_embeds, prompt_mask, negative_mask = pipeline.encode_prompt(prompt)
    pipeline.free_text_encoder()
    assert pipeline.text_encoder is None
    latents = sample(
        pipeline,
        prompt_embeds=prompt_embeds,
        negative_prompt_embeds=negative_prompt_embeds,
        prompt_attention_mask=prompt_mask,
        negative_prompt_attention_mask=negative_mask,
        num_frames=1,
    )
    assert torch.equal(latents, expected)
    with pytest.raises(ValueError, match="need a text encoder, and this pipeline has none: pass `prompt_embeds`"):
        sample(pipeline, prompt="a red circle")


# 6. Placement, saving, adapters


def test_a_saved_pipeline_draws_the_same(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = InfinityStarPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert torch.equal(sample(loaded), sample(pipe))


def test_model_offload_changes_nothing(pipe, own_pipe):
    own_pipe.enable_model_cpu_offload(device="cpu")
    for _ in range(2):  # the second call finds everything put back
        assert is_same(sample(own_pipe, output_type="np"), sample(pipe, output_type="np"))


def test_sequential_offload_changes_nothing(pipe, own_pipe):
    # What `enable_sequential_cpu_offload` does to every model.
    cpu_offload(own_pipe.transformer, "cpu")
    cpu_offload(own_pipe.vae, "cpu")
    expected = sample(pipe, image=video_frames(1)[0])
    for _ in range(2):
        assert own_pipe.transformer.null_text.device.type == "meta"
        assert torch.equal(sample(own_pipe, image=video_frames(1)[0]), expected)


@pytest.mark.parametrize(
    "options", [{"offload_type": "leaf_level"}, {"offload_type": "block_level", "num_blocks_per_group": 1}], ids=str
)
def test_group_offload_changes_nothing(pipe, own_pipe, tmp_path, options):
    # Groups on disk leave uninitialised memory behind: a weight that nobody brings back is noticed on a CPU too.
    for name in ("transformer", "vae"):
        # A folder each: files have the names of modules, which may be those of another model.
        own_pipe.components[name].enable_group_offload(
            onload_device=torch.device("cpu"), offload_to_disk_path=str(tmp_path / name), **options
        )
    assert torch.equal(sample(own_pipe), sample(pipe))


def test_memory_savers_change_no_bit(pipe, own_pipe):
    own_pipe.transformer.enable_forward_chunking(7)
    own_pipe.transformer.fuse_qkv_projections()
    assert torch.equal(sample(own_pipe, sequential_guidance=True), sample(pipe))


def test_an_adapter_is_saved_and_loaded(own_pipe, tmp_path):
    expected = sample(own_pipe)
    own_pipe.transformer.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"]), "style")
    for name, parameter in own_pipe.transformer.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    adapted = sample(own_pipe)
    assert not torch.equal(adapted, expected)
    assert torch.equal(sample(own_pipe, attention_kwargs={"scale": 0.0}), expected)
    layers = get_peft_model_state_dict(own_pipe.transformer, adapter_name="style")
    InfinityStarPipeline.save_lora_weights(tmp_path, transformer_lora_layers=layers)
    other = make_run_pipeline()
    other.load_lora_weights(tmp_path)
    assert torch.equal(sample(other), adapted)
    other.unload_lora_weights()
    assert torch.equal(sample(other), expected)


# 7. Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 16}, "`num_frames` has to be 4 \\* n \\+ 1, got 16. The nearest that work are 13 and 17"),
        ({"num_frames": 0}, "`num_frames` has to be 4 \\* n \\+ 1, got 0"),
        ({"height": 64}, "Pass both of `height` and `width`, or none: got 64 and None"),
        ({"height": 64, "width": 128}, "`height` and `width` are 64x128, .* nearest shape is 64x112; all: 64x112"),
        ({"height": 0, "width": 0}, "`height` and `width` are 0x0"),
        ({"guidance_scale": 0.0}, "`guidance_scale` has to be at least 1"),
        ({"guidance_type": "strong"}, "`guidance_type` must be one of"),
        ({"video_temperature": 0.0}, "`video_temperature` has to be above 0"),
        ({"num_videos_per_prompt": 0}, "`num_videos_per_prompt` has to be at least 1"),
        ({"generator": [torch.Generator()] * 2}, "`generator` is a list of 2, but 1 videos are asked for"),
        ({"output_type": "uint8"}, "`output_type` has to be 'np', 'pt', 'pil' or 'latent', got 'uint8'"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "has to be in \\['latents'\\], but found \\['noise'\\]"),
        ({"prompt_embeds": None}, "Provide exactly one of `prompt` and `prompt_embeds`"),
        ({"prompt": "a", "prompt_embeds": run_text()}, "Provide exactly one of `prompt` and `prompt_embeds`"),
        ({"prompt": []}, "`prompt` is an empty list"),
        ({"prompt": 3}, "`prompt` has to be of type `str` or `list\\[str\\]`, got <class 'int'>"),
        ({"negative_prompt": "a"}, "need a text encoder, and this pipeline has none"),
        ({"prompt_embeds": torch.zeros(1, 13, 47)}, "has to be \\(batch, tokens, 48\\), got \\(1, 13, 47\\)"),
        ({"prompt_embeds": torch.zeros(1, 513, 48)}, "has 513 tokens, the longest text of this model is 512"),
        ({"prompt_embeds": torch.full((1, 13, 48), float("nan"))}, "`prompt_embeds` holds values that are not finite"),
        ({"prompt_attention_mask": torch.ones(1, 5)}, "`prompt_attention_mask` has to be a tensor of the shape"),
        ({"prompt_attention_mask": torch.arange(13)[None] > 3}, "has to hold the text first"),
        ({"negative_prompt_attention_mask": torch.ones(1, 13)}, "belongs to `negative_prompt_embeds`, which were not"),
        ({"attention_kwargs": {"scal": 0.5}}, "`attention_kwargs` may only have 'scale'"),
        ({"num_videos_per_prompt": 1.0}, "`num_videos_per_prompt` has to be an integer, got 1.0"),
        ({"num_frames": 17.0}, "`num_frames` has to be an integer, got 17.0. Pass 17"),
        ({"callback_on_step_end": 3}, "`callback_on_step_end` has to be a function"),
        ({"callback_on_step_end": lambda *arguments: None}, "`callback_on_step_end` has to return a dictionary"),
        (
            {"callback_on_step_end": lambda *arguments: {"latents": torch.zeros(1)}},
            "has to return as `latents` a float tensor of shape",
        ),
        ({"image": 200 * torch.ones(3, 64, 112)}, "has values from 200 to 200: pass floats in \\[0, 1\\]"),
        ({"negative_prompt_embeds": torch.zeros(2, 13, 48)}, "`negative_prompt_embeds` has 2 entries for 1 prompts"),
        ({"max_sequence_length": 513}, "`max_sequence_length` has to be between 1 and 512, got 513"),
        ({"image": video_frames(1)[0], "video": video_frames(9)}, "Pass at most one of `image` and `video`"),
        (
            {"image": video_frames(2), "prompt_embeds": torch.zeros(3, 13, 48)},
            "`image` has 2 entries for 3 prompts. Pass one, or 3",
        ),
        ({"image": []}, "`image` is empty"),
        ({"image": "circle.png"}, "`image` has to hold PIL images, arrays or tensors, got <class 'str'>"),
        ({"image": torch.zeros(64, 112, 3)}, "`image` has a picture of shape \\(64, 112, 3\\)"),
        ({"image": PIL.Image.new("RGB", (112, 112))}, "112x112 \\(height x width\\).* cut off 43% of the picture"),
        ({"video": video_frames(5)}, "`video` has 5 frames. .* whole clips, 8 \\* n \\+ 1 frames: pass 1 or 9"),
        ({"video": video_frames(9), "num_frames": 9}, "`num_frames` counts the 9 given frames .* got 9. Pass 17"),
        ({"image": video_frames(1)[0], "num_frames": 1}, "`num_frames` counts the 1 given frames .* got 1. Pass 9"),
        ({"video": [video_frames(9), video_frames(1)]}, "The videos of `video` have \\[9, 1\\] frames"),
    ],
    ids=lambda value: None if isinstance(value, str) else ",".join(value),
)
def test_what_cannot_work_is_refused(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        sample(pipe, **arguments)


def test_a_length_without_whole_seconds_has_no_hint(pipe_with_text):
    with pytest.raises(ValueError, match="`num_frames` is 13: .* whole seconds of 16 frames. Pass 1 or 17"):
        sample(pipe_with_text, prompt="a red circle", num_frames=13)
    with pytest.raises(ValueError, match="`negative_prompt` has 2 entries for 1 prompts"):
        sample(pipe_with_text, prompt="a red circle", negative_prompt=["blue", "green"])
    with pytest.raises(ValueError, match="at most one of `negative_prompt` and `negative_prompt_embeds`"):
        sample(pipe_with_text, prompt="a", negative_prompt="b", negative_prompt_embeds=run_text())
    assert sample(pipe_with_text, prompt="a red circle", num_frames=13, add_prompt_hints=False).shape[2] == 4


def test_a_square_picture_is_cropped_when_a_size_is_named(pipe):
    image = PIL.Image.new("RGB", (112, 112), "red")
    assert sample(pipe, image=image, height=64, width=112, num_frames=9).shape == (1, 64, 3, *GRID)
