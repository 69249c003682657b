# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0

import json

import pytest
import torch
import torch.nn.functional as F
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from peft import LoraConfig

from tests.infinitystar_runs import (
    GRID,
    RecordedRun,
    make_public_transformer,
    make_run_scheduler,
    public_transformer_tensors,
    recorded,
    run_facts,
    run_text,
)
from videoar_pipelines import InfinityStarTransformer3DModel
from videoar_pipelines.models.token_layout_infinitystar import (
    InfinityStarPass,
    pass_positions,
    sequence_mask,
)


# An independent restatement of the reference differs by 3e-6; the smallest planted mistake (the eps of a norm) by 1.6e-4.
LOGITS_TOLERANCE = 2e-5


def both_branches(model: InfinityStarTransformer3DModel) -> torch.Tensor:
    """Text states of the recorded prompt and of its unconditional branch, `(2, 13, 48)`."""
    return torch.cat([run_text(), model.null_text_embeds(1, 13)])


def run_pass_by_pass(model: InfinityStarTransformer3DModel, run: RecordedRun) -> list[torch.Tensor]:
    """Logits of every pass of a recorded run under its bits, both branches."""
    scheduler, kv_cache = make_run_scheduler(), model.make_cache()
    logits = []
    with torch.no_grad():
        model.encode_text(both_branches(model), kv_cache)
        for item in run.passes:
            inputs = scheduler.scale_model_input(run.sum_before(item), item).expand(2, -1, -1)
            logits += model(inputs, [item], kv_cache=kv_cache, keep_map=item.is_last_of_clip).logits
    return logits


def largest_difference(first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def run():
    return RecordedRun.load("t2v_apg")


@pytest.fixture(scope="module")
def model():
    return make_public_transformer()


@pytest.fixture(scope="module")
def logits(model, run):
    return run_pass_by_pass(model, run)


# 1. The reference


@pytest.mark.parametrize("is_fused", [False, True], ids=["separate projections", "fused projections"])
def test_logits_of_every_pass_are_those_of_the_reference(run, is_fused):
    model = make_public_transformer()
    if is_fused:
        model.fuse_qkv_projections()
    compared = 0
    for item, logits in zip(run.passes, run_pass_by_pass(model, run)):
        expected = run.get(item, "logits")
        if expected is not None:
            assert (logits - expected).abs().max() <= LOGITS_TOLERANCE
            compared += 1
    assert compared == 14


def test_positions_are_those_of_the_reference(run):
    compared = 0
    for item in run.passes:
        expected = run.get(item, "pos")
        if expected is not None:
            assert torch.equal(pass_positions(item, 512), expected.long())
            compared += 1
    assert compared == 3


@pytest.mark.parametrize("size", ["480p", "720p"])
def test_rows_and_columns_of_the_published_sizes_are_those_of_the_reference(size):
    places = run_facts()["schedule"]["rope_rows_cols"][size]
    finest = tuple(places[-1]["grid"])
    for scale, place in enumerate(places):
        grid = (1, *place["grid"])
        item = InfinityStarPass(0, scale, 0, 0, 0, grid, finest, 16, False)
        positions = pass_positions(item, 512).unflatten(0, grid)
        assert positions[0, :, 0, 2].tolist() == place["rows"]
        assert positions[0, 0, :, 3].tolist() == place["cols"]


def test_a_row_halfway_between_two_is_rounded_as_float32_puts_it():
    # 7 * 57 / 14 is 28.5, and 7 times the float32 nearest to 57 / 14 is a little more.
    item = InfinityStarPass(0, 0, 0, 0, 0, (1, 1, 14), (28, 57), 16, False)
    assert pass_positions(item, 512)[7, 3] == 29


def training_passes() -> list[InfinityStarPass]:
    facts = run_facts()["training"]
    first_frames = (0, 1, 3)
    return [
        InfinityStarPass(
            clip=index // 5,
            scale=index % 5,
            repetition=0,
            step=step,
            first_frame=first_frames[index // 5],
            grid=tuple(grid),
            finest_grid=GRID,
            num_bits=16 if index % 5 < 3 else 64,
            is_last_of_clip=index % 5 == 4,
        )
        for index, (grid, (_, step)) in enumerate(zip(facts["scales"], facts["si_and_step"]))
    ]


@pytest.mark.parametrize("checkpoints", [False, True], ids=["plain", "gradient checkpointing"])
@pytest.mark.parametrize("drops_text", [False, True], ids=["text", "null text"])
def test_a_training_pass_gives_loss_and_gradients_of_the_reference(drops_text, checkpoints):
    model, prefix = make_public_transformer().train(), "uncond_" if drops_text else ""
    if checkpoints:
        model.enable_gradient_checkpointing()
    passes = training_passes()
    outputs = model(
        recorded()["training.inputs"], passes, run_text(), text_drop_mask=torch.tensor([drops_text])
    ).logits
    losses = []
    for index, logits in enumerate(outputs):
        bits = recorded()[f"training.s{index:02d}.target_bits"].long()  # (1, L, d)
        losses.append(F.cross_entropy(logits.movedim(-1, 1), bits, reduction="none").mean(dim=-1)[0])
    assert (torch.cat(losses) - recorded()[f"training.{prefix.replace('_', '.')}loss"]).abs().max() <= 5e-6
    weights = recorded()["training.scale_weights"]
    total = sum(weight * loss.mean() for weight, loss in zip(weights, losses))
    assert total.item() == pytest.approx(run_facts()["training"][f"{prefix}total_loss"], abs=1e-6)

    total.backward()
    norm = torch.stack(
        [parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None]
    ).norm()
    kind = "train_uncond_grad_norm" if drops_text else "train_grad_norm"
    assert norm.item() == pytest.approx(run_facts()["training"][kind], rel=1e-5)
    if drops_text:
        expected = recorded()["training.uncond.grad.cfg_uncond_rows"]
        assert (model.null_text.grad[:13] - expected).abs().max() <= 1e-6
        assert model.null_text.grad[13:].abs().max() == 0
    else:
        expected = recorded()["training.grad.semantic_head2.weight"]
        assert (model.proj_out_semantic.weight.grad - expected).abs().max() <= 1e-6
        expected = recorded()["training.grad.word_embed.bias"]
        assert (model.map_embedder.bias.grad - expected).abs().max() <= 1e-6


# 2. One rule of visibility


def test_one_pass_at_a_time_equals_all_passes_at_once(model, run, logits):
    scheduler = make_run_scheduler()
    inputs = torch.cat([scheduler.scale_model_input(run.sum_before(item), item) for item in run.passes], dim=1)
    with torch.no_grad():
        at_once = model(inputs.expand(2, -1, -1), run.passes, both_branches(model)).logits
    # Sums of attention in another order.
    assert largest_difference(at_once, logits) <= 2e-5


def test_a_pass_sees_the_segments_that_the_reference_lists(run):
    passes = run.passes
    lengths = [13, *(item.num_tokens for item in passes)]
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    mask = sequence_mask(passes, 13)[0, 0]
    table = mask[starts][:, starts]
    for number, visible in enumerate(run_facts()["runs"]["t2v_apg"]["visible"]):
        expected = {number + 1}  # itself
        for name, length in visible:
            if name == "text":
                assert length == 13
                expected.add(0)
            elif name != "self":
                # The last pass of the scale with this number, counted over all clips.
                clip, scale = divmod(int(name[1:]), 5)
                steps = [item.step for item in passes if (item.clip, item.scale) == (clip, scale)]
                expected.add(max(steps) + 1)
        assert set(table[number + 1].nonzero().flatten().tolist()) == expected
    assert mask.sum(dim=1)[-1] == sum(length for _, length in visible)
    assert table[0].tolist() == [True] + [False] * len(passes)


def test_the_cache_holds_the_text_and_one_pass(model, run):
    kv_cache = model.make_cache()
    with torch.no_grad():
        model.encode_text(both_branches(model), kv_cache)
        sizes = []
        for item in run.passes:
            inputs = torch.zeros(2, item.num_tokens, 64)
            model(inputs, [item], kv_cache=kv_cache, keep_map=item.is_last_of_clip)
            sizes.append(kv_cache.num_map_tokens)
    assert sizes == [0] * 9 + [28] * 9 + [56] * 10
    layers, batch, key_value_heads, head_dim = 4, 2, 2, 32
    # The text stands alone and in front of the pass.
    assert kv_cache.num_bytes == layers * 2 * batch * (13 + 13 + 56) * key_value_heads * head_dim * 4
    kv_cache.clear_frames()
    assert (kv_cache.num_text_tokens, kv_cache.num_map_tokens) == (13, 0)
    kv_cache.clear()
    assert (kv_cache.num_text_tokens, kv_cache.num_bytes) == (0, 0)


def test_a_fused_projection_is_not_held_by_the_cache(run):
    model = make_public_transformer()
    model.fuse_qkv_projections()
    kv_cache = model.make_cache()
    with torch.no_grad():
        model.encode_text(run_text(), kv_cache)
    for key, value in (layer.text for layer in kv_cache.layer_caches):
        assert key.untyped_storage().nbytes() == value.untyped_storage().nbytes() == value.numel() * 4


def test_padding_of_a_shorter_text_changes_nothing(model, run):
    short = run_text()[:, :9]
    texts = torch.cat([F.pad(short, (0, 0, 0, 4), value=7.0), run_text()])
    mask = torch.ones(2, 13, dtype=torch.bool)
    mask[0, 9:] = False
    clip_ends = [run.clips[0][-1], run.clips[1][-1]]
    inputs = torch.randn(1, sum(item.num_tokens for item in clip_ends), 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        alone = model(inputs, clip_ends, short).logits
        at_once = model(inputs.expand(2, -1, -1), clip_ends, texts, mask).logits
        kv_cache = model.make_cache()
        model.encode_text(texts, kv_cache, mask)
        by_pass, start = [], 0
        for item in clip_ends:
            part = inputs[:, start : start + item.num_tokens].expand(2, -1, -1)
            by_pass += model(part, [item], kv_cache=kv_cache, keep_map=True).logits
            start += item.num_tokens
    for batch in (at_once, by_pass):
        assert largest_difference([part[:1] for part in batch], alone) <= 2e-5


# 3. Memory savers, backends, adapters


@pytest.mark.parametrize("chunk_size", [1, 7, 100])
def test_chunks_of_the_swiglu_change_nothing(run, logits, chunk_size):
    model = make_public_transformer()
    model.enable_forward_chunking(chunk_size)
    # Matrix products of another height may be summed in another order.
    assert largest_difference(run_pass_by_pass(model, run), logits) <= 2e-5
    model.disable_forward_chunking()
    assert largest_difference(run_pass_by_pass(model, run), logits) == 0


def test_packed_weights_change_nothing_but_rounding(run, logits):
    model = make_public_transformer()
    model.pack_linear_layers()
    assert largest_difference(run_pass_by_pass(model, run), logits) <= 2e-5


def test_another_attention_backend_gives_the_same_logits(run, logits):
    model = make_public_transformer()
    model.set_attention_backend("_native_math")  # without grouped heads
    assert largest_difference(run_pass_by_pass(model, run), logits) <= 2e-5


def test_an_adapter_changes_the_logits_and_its_scale_takes_it_back(model, run, logits):
    model = make_public_transformer()
    model.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v", "to_out.0", "proj", "net.2"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    item = run.passes[0]
    text, inputs = run_text(), torch.zeros(1, 1, 64)

    def first_logits(**kwargs):
        kv_cache = model.make_cache()
        with torch.no_grad():
            model.encode_text(text, kv_cache, **kwargs)
            return model(inputs, [item], kv_cache=kv_cache, **kwargs).logits[0]

    assert (first_logits() - logits[0][:1]).abs().max() > 0.1
    assert (first_logits(attention_kwargs={"scale": 0.0}) - logits[0][:1]).abs().max() <= 2e-5


def test_heads_stay_in_float32_and_the_rest_is_cast(tmp_path, run):
    make_public_transformer().save_pretrained(tmp_path)
    model = InfinityStarTransformer3DModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    heads = {"proj_out_semantic.weight", "proj_out_semantic.bias", "proj_out_detail.weight", "proj_out_detail.bias"}
    assert {name for name, parameter in model.named_parameters() if parameter.dtype == torch.float32} == heads
    assert model.dtype == torch.bfloat16
    logits = run_pass_by_pass(model, run)
    assert {part.dtype for part in logits} == {torch.float32}
    # Imitating bfloat16, the reference was off by up to 0.066.
    assert largest_difference(logits, run_pass_by_pass(make_public_transformer(), run)) <= 0.2


@pytest.mark.parametrize(
    "options", [{"offload_type": "leaf_level"}, {"offload_type": "block_level", "num_blocks_per_group": 1}], ids=str
)
def test_group_offloading_serves_every_entry_point(run, logits, options, tmp_path):
    model = make_public_transformer()
    null_text = model.null_text_embeds(2, 5).clone()
    # Groups on disk leave uninitialised memory behind: a weight that nobody brings back is noticed on a CPU too.
    model.enable_group_offload(onload_device=torch.device("cpu"), offload_to_disk_path=str(tmp_path), **options)
    assert torch.equal(model.null_text_embeds(2, 5), null_text)
    # Weights from a file lie at other addresses, where sums run in another order.
    assert largest_difference(run_pass_by_pass(model, run), logits) <= 2e-5


def test_every_entry_point_runs_the_offload_hook_of_accelerate(run):
    model, calls = make_public_transformer(), []

    class CountingHook(ModelHook):
        def pre_forward(self, module, *args, **kwargs):
            calls.append(module)
            return args, kwargs

    add_hook_to_module(model, CountingHook())
    kv_cache = model.make_cache()
    with torch.no_grad():
        model.null_text_embeds(1, 3)
        model.encode_text(run_text(), kv_cache)
        model(torch.zeros(1, 1, 64), run.passes[:1], kv_cache=kv_cache)
    assert len(calls) == 3
    remove_hook_from_module(model)


def test_blocks_compile_to_one_graph(run, logits):
    model = make_public_transformer()
    model.compile_repeated_blocks(fullgraph=True, dynamic=True, backend="eager")  # traces like any other backend
    assert largest_difference(run_pass_by_pass(model, run), logits) <= 2e-5
    torch.compiler.reset()


# 4. Full size


def test_the_published_transformer_is_the_default_configuration():
    facts = run_facts()["full_size"]
    assert len(facts["shapes"]) == 407
    num_published = sum(torch.Size(shape).numel() for shape in facts["shapes"].values())
    assert num_published == facts["parameters"] == 8_768_382_112
    with torch.device("meta"):
        model = InfinityStarTransformer3DModel()
    # Our model has no start token: 4,096 numbers that nothing reads.
    assert sum(parameter.numel() for parameter in model.parameters()) == num_published - 4096


def test_the_cache_of_720p_takes_half_a_gibibyte_a_branch():
    with torch.device("meta"):
        model = InfinityStarTransformer3DModel(num_layers=2).to(torch.bfloat16)
        kv_cache = model.make_cache()
        item = InfinityStarPass(0, 14, 2, 44, 0, (1, 45, 80), (45, 80), 64, True)
        with torch.no_grad():
            model.encode_text(torch.empty(1, 64, 2048), kv_cache)
            model(torch.empty(1, 3600, 64), [item], kv_cache=kv_cache, keep_map=True)
    gibibytes = kv_cache.num_bytes / model.config.num_layers * 36 / 2**30
    assert 0.5 <= gibibytes <= 0.52  # with 64 tokens of text, kept twice


def test_a_saved_configuration_is_loaded_again(tmp_path, model):
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["num_key_value_heads"] == 2
    loaded = InfinityStarTransformer3DModel.from_pretrained(tmp_path)
    for (name, mine), (other, theirs) in zip(model.named_parameters(), loaded.named_parameters(), strict=True):
        assert name == other and torch.equal(mine, theirs)
    assert "sos_token" in public_transformer_tensors() and "sos_token" not in model.state_dict()


# 5. Errors


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_attention_heads": 4, "num_key_value_heads": 3}, "`num_key_value_heads` \\(3\\) must divide"),
        ({"attention_head_dim": 12}, "`attention_head_dim` \\(12\\) must be a multiple of 8"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(config, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        InfinityStarTransformer3DModel(num_layers=1, **config)


def test_calls_that_cannot_work_are_refused(model, run):
    item, kv_cache = run.passes[2], model.make_cache()
    inputs = torch.zeros(1, 6, 64)
    with pytest.raises(ValueError, match="exactly one of `encoder_hidden_states`"):
        model(inputs, [item])
    with pytest.raises(ValueError, match="exactly one of `encoder_hidden_states`"):
        model(inputs, [item], run_text(), kv_cache=kv_cache)
    with pytest.raises(ValueError, match="`kv_cache` has no text yet"):
        model(inputs, [item], kv_cache=kv_cache)
    with pytest.raises(ValueError, match="`hidden_states` has 6 tokens, but `passes` have 8"):
        model(inputs, run.passes[4:5], run_text())
    with pytest.raises(ValueError, match="with `kv_cache` a call is one pass"):
        model(torch.zeros(1, 12, 64), run.passes[2:4], kv_cache=kv_cache)
    with pytest.raises(ValueError, match="513 text tokens, the longest text of this model is 512"):
        model.encode_text(torch.zeros(1, 513, 48), kv_cache)
    with pytest.raises(ValueError, match="`num_tokens` is 513"):
        model.null_text_embeds(1, 513)
    with pytest.raises(ValueError, match="`chunk_size` has to be at least 1 token, got 0"):
        model.enable_forward_chunking(0)
