# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Transformers whose weights two processes share: the logits and videos of one. Sequences that processes share are in
tests/training/test_sharding.py.
"""

import os

import diffusers.hooks.tensor_parallel
import pytest
import torch
import torch.distributed as dist
from diffusers import TensorParallelConfig
from torch.distributed.device_mesh import init_device_mesh

from tests.examples.training_scripts import run_in_processes
from tests.infinitystar_runs import RecordedRun, make_public_transformer, make_run_scheduler, run_text
from tests.tiny_components import make_tiny_pipeline, make_tiny_transformer
from tests.transformer_clips import assert_same_logits, make_clip, make_filled_cache, run_at_once, run_map_by_map
from videoar_pipelines import VideoARTransformer3DModel


PROMPT = "a red circle moves to the right"


@pytest.fixture
def two_accelerators(monkeypatch):
    """diffusers divides weights on accelerators only, and asks for their number, which is zero on a CPU."""
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(diffusers.hooks.tensor_parallel, "_SUPPORTED_TP_DEVICES", ("cpu",))


def start_gloo() -> TensorParallelConfig:
    dist.init_process_group("gloo", rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"]))
    return TensorParallelConfig(mesh=init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("tp",)))


def make_model(**config) -> VideoARTransformer3DModel:
    torch.manual_seed(0)
    return make_tiny_transformer(num_attention_heads=4, **config).requires_grad_(False)


@pytest.mark.parametrize("heads", [{}, {"num_key_value_heads": 2}, {"qk_norm": False}], ids=str)
def test_two_processes_that_share_the_weights_compute_the_logits_of_one(two_accelerators, heads):
    clip = make_clip(num_frames=4, padded=True)
    model = make_model(**heads)
    at_once, cached = run_at_once(model, clip), run_map_by_map(model, clip, window=1, sink_size=1)
    num_weights = sum(weight.numel() for weight in model.blocks.parameters())

    def check():
        model = make_model(**heads)
        model.enable_parallelism(config=start_gloo())
        assert model.tensor_parallel_degree == 2
        assert_same_logits(run_at_once(model, clip), at_once)
        cache = make_filled_cache(model, clip, window=1, sink_size=1)
        assert_same_logits(run_map_by_map(model, clip, cache=cache), cached)
        # The cache holds the heads of this process, and so do the weights; norms are not divided.
        assert cache.keys.shape[3] == heads.get("num_key_value_heads", 4) // 2
        local = [weight.to_local() if hasattr(weight, "to_local") else weight for weight in model.blocks.parameters()]
        assert sum(weight.numel() for weight in local) < 0.52 * num_weights

    run_in_processes(check, 2)


def test_two_processes_that_share_the_weights_sample_the_video_of_one(two_accelerators, tmp_path):
    """
    The same bits: logits differ by rounding, and no draw of these is so near to its probability. Text of unequal length, guidance,
    given frames and refinement; loaded so that a process reads its part of every weight.
    """
    pipeline = make_tiny_pipeline()
    pipeline.transformer.save_pretrained(tmp_path)
    video = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))

    def sample(**arguments):
        arguments |= {"num_frames": 13, "window": 2, "refinements": [1], "output_type": "latent"}
        generator = torch.Generator().manual_seed(0)
        return pipeline([PROMPT, "a blue square"], video=video, generator=generator, **arguments).frames

    expected = sample()

    def check():
        config = start_gloo()
        pipeline.transformer = VideoARTransformer3DModel.from_pretrained(tmp_path, parallel_config=config)
        assert torch.equal(sample(), expected)
        with pytest.raises(ValueError, match="`generator` is `None`, but 2 processes share the transformer"):
            pipeline(PROMPT)
        with pytest.raises(ValueError, match="CUDA graphs would have to record what 2 processes .* exchange"):
            pipeline.enable_cuda_graphs()
        stream = pipeline.stream(PROMPT, num_frames=5, latents=torch.full((1, 2, 30, 8), 0.5), output_type="latent")
        assert len(list(stream)) == 2

    run_in_processes(check, 2)


def test_infinitystar_on_two_processes_has_the_logits_of_one(two_accelerators):
    run = RecordedRun.load("t2v_apg")

    @torch.no_grad()
    def logits_of(model):
        kv_cache, scheduler, logits = model.make_cache(), make_run_scheduler(), []
        model.encode_text(run_text(), kv_cache)
        for item in run.passes[:12]:  # to the second clip, which sees the end of the first
            inputs = scheduler.scale_model_input(run.sum_before(item), item)
            logits += model(inputs, [item], kv_cache=kv_cache, keep_map=item.is_last_of_clip).logits
        return torch.cat([item.flatten() for item in logits]), kv_cache.num_bytes

    expected, num_bytes = logits_of(make_public_transformer())

    def check():
        model = make_public_transformer()
        model.enable_parallelism(config=start_gloo())
        logits, num_local_bytes = logits_of(model)
        assert_same_logits(logits, expected)
        assert num_local_bytes == num_bytes / 2

    run_in_processes(check, 2)


def test_what_cannot_be_shared_is_refused(two_accelerators):
    def check():
        config = start_gloo()
        refused = {
            "must divide the number of attention heads": {"num_attention_heads": 3},
            "`tp_degree` is 2, .* whole heads, and `num_key_value_heads` is 1": {"num_key_value_heads": 1},
            "a block of size 47 along dim 0 is not divisible by 2": {"intermediate_size": 47},
        }
        for message, changes in refused.items():
            with pytest.raises(ValueError, match=message):
                make_tiny_transformer(**changes).enable_parallelism(config=config)
        model = make_tiny_transformer()
        model.fuse_qkv_projections()
        with pytest.raises(ValueError, match="the projections are fused: call `unfuse_qkv_projections\\(\\)`"):
            model.enable_parallelism(config=config)
        model.unfuse_qkv_projections()
        model.enable_parallelism(config=config)
        for name in ("fuse_qkv_projections", "pack_linear_layers"):
            with pytest.raises(ValueError, match=f"`{name}` needs whole weights, but .* 2 processes share them"):
                getattr(model, name)()

    run_in_processes(check, 2)


def test_without_accelerators_weights_are_not_shared():
    def check():
        config = start_gloo()
        with pytest.raises(ValueError, match="`tp_degree` is 2, but there is no accelerator"):
            make_tiny_transformer().enable_parallelism(config=config)

    run_in_processes(check, 2)
