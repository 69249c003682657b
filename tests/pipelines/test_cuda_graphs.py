# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
CUDA graphs. Without a GPU the recorder is replaced by one that repeats the recorded Python step on the same static tensors and
cache, which leaves everything else to be tested: what is static, when a step is recorded anew, who may use which cache.
"""

import gc

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only, tree_unflatten

from tests.tiny_components import make_tiny_pipeline, make_tiny_transformer
from videoar_pipelines.models.quantization import tokens_per_frame
from videoar_pipelines.pipelines import cuda_graphs
from videoar_pipelines.pipelines.cuda_graphs import CUDAGraphRecorder, CUDAGraphRunner, EagerRunner
from videoar_pipelines.pipelines.frame_sampler import FrameSampler, PromptStates


SIZES = {"num_frames": 13, "height": 64, "width": 64, "output_type": "latent"}  # 4 latent frames of 4 scales


@pytest.fixture(autouse=True)
def everything_is_on_a_gpu(monkeypatch):
    monkeypatch.setattr(cuda_graphs, "_is_on_current_gpu", lambda tensor: True)


class NothingFromTheHost(TorchFunctionMode):
    """Raises where a call copies values from the host, which a CUDA graph cannot record."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.tensor, torch.as_tensor, torch.from_numpy):
            raise AssertionError(f"{function.__name__} copies from the host")
        if function in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(item, (list, np.ndarray)) for item in index):
                raise AssertionError(f"the index {args[1]} is copied from the host")
        tensors = [item for item in tree_leaves((args, kwargs)) if isinstance(item, torch.Tensor)]
        if any(tensor.device.type == "cpu" for tensor in tensors):
            raise AssertionError(f"{function.__name__} reads a tensor of the host")
        return function(*args, **(kwargs or {}))


class RepeatedCalls(CUDAGraphRecorder):
    """Repeats Python where a graph would repeat kernels."""

    num_recorded = 0

    def _capture(self, run):
        outputs = tree_map_only(torch.Tensor, torch.clone, run())
        self.num_recorded += 1

        def replay():
            for output, result in zip(tree_leaves(outputs), tree_leaves(run()), strict=True):
                if output is not None:
                    output.copy_(result)

        return replay, outputs


class RepeatedRunner(CUDAGraphRunner):
    def __init__(self, max_caches=4):
        super().__init__(max_caches)
        self.steps, self.decoder, self.refinement = RepeatedCalls(), RepeatedCalls(), RepeatedCalls()
        self.text = RepeatedCalls(self.text.max_calls)


def make_recorded_pipeline(max_caches=4):
    pipeline = make_tiny_pipeline()
    pipeline._runner = RepeatedRunner(max_caches)
    return pipeline


def generate(pipeline, prompt="a red circle", seed=1, **arguments):
    generator = torch.Generator().manual_seed(seed)
    return pipeline(prompt, generator=generator, **(SIZES | arguments)).frames


@pytest.fixture
def pipelines():
    """The same pipeline twice: as it is, and with recorded steps."""
    return make_tiny_pipeline(), make_recorded_pipeline()


def test_recorded_steps_give_the_same_videos_in_the_first_call_and_in_later_ones(pipelines):
    plain, recorded = pipelines
    for seed in (1, 2, 3):
        prompts = ["a red circle", "a"]  # padded
        expected = generate(plain, prompts, seed, refinements=[2, 1], window=1)
        assert torch.equal(generate(recorded, prompts, seed, refinements=[2, 1], window=1), expected)


def test_a_second_call_records_nothing(pipelines):
    _, recorded = pipelines
    generate(recorded)
    assert recorded._runner.steps.num_recorded == 1 + 4 * 4
    generate(recorded, prompt="a blue circle", seed=2)  # another text of the same length
    assert recorded._runner.steps.num_recorded == 1 + 4 * 4


def test_a_text_is_encoded_as_one_graph_for_its_number_of_tokens(pipelines):
    plain, recorded = pipelines
    text = recorded._runner.text
    prompts = ["a red circle", "a blue circle", ["a red circle", "a"], ["a", "a red circle"]]
    for prompt, num_recorded in zip(prompts, (1, 1, 2, 2), strict=True):
        assert torch.equal(generate(recorded, prompt), generate(plain, prompt))  # guided by the learned null text
        assert text.num_recorded == num_recorded


def test_no_more_texts_are_kept_than_there_may_be(pipelines):
    _, recorded = pipelines
    recorded._runner.text.max_calls = 2
    with torch.no_grad():
        for num_words, num_recorded in ((1, 1), (2, 2), (1, 2), (3, 3), (1, 3), (2, 4)):
            recorded.encode_prompt(" ".join(["a"] * num_words), do_classifier_free_guidance=False)
            assert recorded._runner.text.num_recorded == num_recorded


def test_a_text_that_wants_gradients_is_encoded_as_it_is(pipelines):
    _, recorded = pipelines
    embeds = recorded.encode_prompt("a red circle", do_classifier_free_guidance=False)[0]
    assert embeds.requires_grad and recorded._runner.text.num_recorded == 0


@torch.no_grad()
def test_encoding_a_text_looks_at_no_value_and_takes_none_from_the_host():
    text_encoder = make_tiny_pipeline().text_encoder.to("meta")
    runner, ids = RepeatedRunner(), torch.ones(2, 5, dtype=torch.long, device="meta")
    run = runner.text.run

    def run_strictly(owner, key, function, *inputs):
        def without_the_host(*inputs):
            with NothingFromTheHost():
                return function(*inputs)

        return run(owner, key, without_the_host, *inputs)

    runner.text.run = run_strictly
    states = runner.encode_text(text_encoder, ids, ids)
    assert states.shape == (2, 5, text_encoder.config.d_model) and runner.text.num_recorded == 1


def test_with_a_window_frames_that_see_as_much_share_their_graphs(pipelines):
    _, recorded = pipelines
    generate(recorded, window=1)
    assert recorded._runner.steps.num_recorded == 1 + 2 * 4  # a first frame, and one that sees another


@pytest.mark.parametrize(
    "arguments",
    [{"temperature": 0.5}, {"top_p": 0.6}, {"attention_kwargs": {"scale": 0.5}}, {"prompt": ["a red circle", "a"]}],
)
def test_other_settings_or_shapes_are_recorded_anew(pipelines, arguments):
    plain, recorded = pipelines
    generate(recorded)
    recorded_before = recorded._runner.steps.num_recorded
    torch.testing.assert_close(generate(recorded, **arguments), generate(plain, **arguments), rtol=0, atol=0)
    is_text_recorded = "attention_kwargs" in arguments or "prompt" in arguments
    assert recorded._runner.steps.num_recorded - recorded_before == is_text_recorded + 4 * 4


def test_another_scheduler_configuration_is_recorded_anew(pipelines):
    plain, recorded = pipelines
    generate(recorded)
    for pipeline in pipelines:
        pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, temperature=0.3)
    torch.testing.assert_close(generate(recorded), generate(plain), rtol=0, atol=0)


def test_a_frame_beyond_the_text_distance_sees_the_moved_text():
    videos = []
    for pipeline in (make_tiny_pipeline(), make_recorded_pipeline()):
        pipeline.transformer.register_to_config(max_text_distance=1)
        videos.append([generate(pipeline, seed=seed, window=1, num_frames=21) for seed in (1, 2)])
    torch.testing.assert_close(videos[1], videos[0], rtol=0, atol=0)


def test_two_streams_in_turns_do_not_share_a_cache(pipelines):
    plain, recorded = pipelines

    def streams(pipeline):
        made = [
            pipeline.stream("a red circle", generator=torch.Generator().manual_seed(seed), **SIZES) for seed in (1, 2)
        ]
        return [[next(stream) for stream in made] for _ in range(4)]

    for _ in range(2):
        torch.testing.assert_close(streams(recorded), streams(plain), rtol=0, atol=0)


@pytest.mark.parametrize("overlap_decoding", [False, True])
def test_two_streams_in_turns_are_decoded_by_the_same_recorded_calls(pipelines, overlap_decoding):
    plain, recorded = pipelines

    def streams(pipeline):
        arguments = SIZES | {"output_type": "pt", "overlap_decoding": overlap_decoding}
        made = [
            pipeline.stream("a red circle", generator=torch.Generator().manual_seed(seed), **arguments)
            for seed in (1, 2)
        ]
        return [[next(stream) for stream in made] for _ in range(4)]

    for _ in range(2):
        torch.testing.assert_close(streams(recorded), streams(plain), rtol=0, atol=0)
    assert recorded._runner.decoder.num_recorded == 2  # the first chunk of a video, and a later one


@pytest.mark.parametrize(("max_pixels", "num_recorded"), [(cuda_graphs.MAX_RECORDED_PIXELS, 1), (16 * 64 * 64 - 1, 0)])
def test_a_small_clip_is_decoded_as_one_graph(pipelines, monkeypatch, max_pixels, num_recorded):
    monkeypatch.setattr(cuda_graphs, "MAX_RECORDED_PIXELS", max_pixels)
    plain, recorded = pipelines
    for seed in (1, 2):
        expected = generate(plain, seed=seed, output_type="pt")
        torch.testing.assert_close(generate(recorded, seed=seed, output_type="pt"), expected, rtol=0, atol=0)
    assert recorded._runner.decoder.num_recorded == num_recorded


@pytest.mark.parametrize("enable", ["enable_tiling", "enable_slicing"])
def test_a_tokenizer_that_works_piece_by_piece_decodes_without_graphs(pipelines, enable):
    for pipeline in pipelines:
        getattr(pipeline.vae, enable)()
    expected, result = (
        list(
            pipeline.stream(
                "a red circle", generator=torch.Generator().manual_seed(1), **SIZES | {"output_type": "pt"}
            )
        )
        for pipeline in pipelines
    )
    torch.testing.assert_close(result, expected, rtol=0, atol=0)
    assert pipelines[1]._runner.decoder.num_recorded == 0


def test_another_prompt_on_the_way_is_heard():
    videos = []
    for pipeline in (make_tiny_pipeline(), make_recorded_pipeline()):
        chunks = []
        for _ in range(2):
            with pipeline.stream("a red circle", generator=torch.Generator().manual_seed(1), **SIZES) as stream:
                chunks.append(next(stream))
                stream.set_prompt("a blue square")
                chunks.extend(stream)
        videos.append(chunks)
    torch.testing.assert_close(videos[1], videos[0], rtol=0, atol=0)


class StrictRunner(EagerRunner):
    """Runs what would be recorded, and lets it take nothing from the host: numbers come as tensors, as in a graph."""

    def __init__(self):
        self.keys = []

    def run(self, kv_cache, key, function, *inputs):
        items, spec = tree_flatten(inputs)
        items = [torch.empty((), device="meta") if isinstance(item, float) else item for item in items]
        self.keys.append(key[0])
        with NothingFromTheHost():
            return function(*tree_unflatten(items, spec))


@pytest.mark.parametrize("sampling", [(1.0, 1.0), (0.5, 0.9), ([0.0, 0.5], 0.9)], ids=["plain", "top_p", "per scale"])
@pytest.mark.parametrize("has_conditions", [False, True])
@torch.no_grad()
def test_a_step_looks_at_no_value_and_takes_none_from_the_host(sampling, has_conditions):
    """On the meta device there are no values to look at, and whatever is on the CPU came from the host."""
    pipeline = make_tiny_pipeline()
    if has_conditions:
        pipeline.transformer = make_tiny_transformer(frame_conditions={"action": {"vector_size": 3}})
    transformer, vae = pipeline.transformer.to("meta"), pipeline.vae.to("meta")
    states = torch.empty(1, 5, transformer.config.text_embed_dim, device="meta")
    text = PromptStates(states, states, torch.ones(1, 5, dtype=torch.bool), torch.ones(1, 5, dtype=torch.bool))
    runner, schedule = StrictRunner(), pipeline.scheduler.get_scale_schedule(4, 4)
    options = pipeline.scheduler.sampling_options(3.0, *sampling, refinements=[2, 1])
    noise = torch.empty(1, 2, 30 + 25 + 16, 8, device="meta")
    sampler = FrameSampler(
        transformer, pipeline.scheduler, vae, text, options, schedule, num_frames=2, noise=noise, runner=runner
    )
    conditions = {"action": torch.empty(1, 3, device="meta")} if has_conditions else None
    for _ in range(2):
        frame = sampler.sample_frame(conditions)
    assert frame.device.type == "meta" and sampler.kv_cache.num_written == 2 * tokens_per_frame(schedule)
    steps = [("sample", scale) for scale in range(4)] + [("return", 2), ("sample", 3), ("return", 3)]
    assert runner.keys == ["text", *steps, *steps]


@pytest.mark.parametrize("has_padding", [False, True])
def test_writing_the_text_looks_at_no_value_and_takes_none_from_the_host(has_padding):
    pipeline = make_tiny_pipeline()
    transformer = pipeline.transformer.to("meta")
    kv_cache = transformer.make_cache(batch_size=2, text_length=5, tokens_per_frame=21, num_frames=2)
    embeds = torch.empty(2, 5, transformer.config.text_embed_dim, device="meta")
    mask = torch.empty(2, 5, dtype=torch.bool, device="meta") if has_padding else None
    with torch.no_grad(), NothingFromTheHost():
        transformer.encode_text(embeds, kv_cache, mask)
    assert kv_cache.length == 5


def test_decoding_looks_at_no_value_and_takes_none_from_the_host():
    pipeline = make_tiny_pipeline()
    vae, state = pipeline.vae.to("meta"), None
    for _ in range(2):
        with torch.no_grad(), NothingFromTheHost():
            latents = torch.empty(1, vae.config.latent_channels, 1, 4, 4, device="meta")
            sample, state = vae.decode_chunk(latents, state, return_dict=False)
    assert sample.device.type == "meta"


def test_a_callback_that_replaces_the_latents_is_heard(pipelines):
    def negate(pipeline, step, timestep, tensors):
        return {"latents": -tensors["latents"]} if step == 5 else {}

    expected, result = (
        generate(pipeline, callback_on_step_end=negate, callback_on_step_end_tensor_inputs=["latents"])
        for pipeline in pipelines
    )
    torch.testing.assert_close(result, expected, rtol=0, atol=0)
    assert not torch.equal(expected, generate(pipelines[0]))


def test_no_more_idle_caches_are_kept_than_asked_for():
    pipeline = make_recorded_pipeline(max_caches=2)
    for num_frames in (1, 5, 9, 13):
        generate(pipeline, num_frames=num_frames)
    gc.collect()
    assert len(pipeline._runner._idle) == 2


def test_weights_that_moved_are_recorded_anew(pipelines):
    plain, recorded = pipelines
    generate(recorded)
    for pipeline in pipelines:
        pipeline.transformer.to(torch.float64).to(torch.float32)
    torch.testing.assert_close(generate(recorded), generate(plain), rtol=0, atol=0)
    assert recorded._runner.steps.num_recorded == 2 * (1 + 4 * 4)


def test_without_a_gpu_the_error_names_the_device():
    with pytest.raises(ValueError, match="on a CUDA device, but it is on 'cpu'"):
        make_tiny_pipeline().enable_cuda_graphs()


@pytest.mark.gpu
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"window": 1},
        {"window": 1, "sink_size": 1},
        {"prompt": ["a red circle", "a"]},
        {"guidance_scale": 1.0},
        {"refinements": [2, 1], "window": 1},
    ],
)
@pytest.mark.parametrize("fused", [False, True])
def test_graphs_on_a_gpu_give_the_video_of_the_eager_path(arguments, fused):
    pipeline = make_tiny_pipeline().to("cuda")
    if fused:
        pipeline.transformer.fuse_qkv_projections()
    expected = [generate(pipeline, seed=seed, **arguments) for seed in (1, 2, 3)]
    pipeline.enable_cuda_graphs()
    for _ in range(2):
        result = [generate(pipeline, seed=seed, **arguments) for seed in (1, 2, 3)]
        torch.testing.assert_close(result, expected, rtol=0, atol=0)
    pipeline.disable_cuda_graphs()
    torch.testing.assert_close(generate(pipeline, seed=1, **arguments), expected[0], rtol=0, atol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("overlap_decoding", [False, True])
def test_a_stream_with_graphs_on_a_gpu_gives_the_frames_of_the_eager_path(overlap_decoding):
    pipeline = make_tiny_pipeline().to("cuda")

    def stream(seed):
        arguments = SIZES | {"num_frames": 29, "output_type": "pt", "overlap_decoding": overlap_decoding, "window": 2}
        return list(pipeline.stream("a red circle", generator=torch.Generator().manual_seed(seed), **arguments))

    expected = [stream(seed) for seed in (1, 2)]
    pipeline.enable_cuda_graphs()
    for _ in range(2):
        torch.testing.assert_close([stream(seed) for seed in (1, 2)], expected, rtol=0, atol=0)


@pytest.mark.gpu
def test_graphs_do_not_go_with_offloading():
    pipeline = make_tiny_pipeline()
    pipeline.enable_model_cpu_offload()
    with pytest.raises(ValueError, match="CUDA"):
        pipeline.enable_cuda_graphs()
