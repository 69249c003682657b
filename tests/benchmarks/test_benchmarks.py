# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Every benchmark runs from its command line at tiny size, and what it counts is right."""

import importlib.util
import itertools
import json
import math
import runpy
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState

from tests.pipelines.test_cuda_graphs import NothingFromTheHost, RepeatedRunner
from videoar_pipelines import AutoencoderVideoAR, VideoARTransformer3DModel
from videoar_pipelines.models.causal_convolutions import VideoARUpsamplingConv3d
from videoar_pipelines.models.token_layout import video_token_ids
from videoar_pipelines.pipelines.cuda_graphs import CUDAGraphRunner, EagerRunner


FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.fixture
def run_benchmark(tmp_path, monkeypatch, capsys):
    """Runs a script from its command line; gives what it printed and its JSON."""

    def run(name, *arguments):
        output = tmp_path / "results.json"
        common = ["--device", "cpu", "--repeats", "1", "--warm_ups", "1", "--output", output]
        monkeypatch.setattr(sys, "argv", [name, *map(str, [*common, *arguments])])
        num_threads = torch.get_num_threads()
        runpy.run_path(str(FOLDER / name), run_name="__main__")
        torch.set_num_threads(num_threads)
        return capsys.readouterr().out, json.loads(output.read_text())

    return run


def assert_positive_numbers(row):
    numbers = [value for value in row.values() if isinstance(value, (int, float))]
    assert numbers and all(math.isfinite(value) and value > 0 for value in numbers)


# 1. The scripts


def test_generation(run_benchmark):
    printed, results = run_benchmark(
        "benchmark_generation.py",
        "--tokenizer",
        "tiny",
        "--batch_sizes",
        1,
        2,
        "--num_frames",
        5,
        "--height",
        64,
        "--width",
        64,
        "--attention_backend",
        "_native_math",
        "--from_prompt",
    )
    assert [row["batch"] for row in results["rows"]] == [1, 2]
    for row in results["rows"]:
        assert_positive_numbers(row)
        assert row["tokens"] == 2 * (1 + 4 + 9 + 16)
        assert row["x flops"] > 1 and row["x roofline"] > 1  # nothing is faster than the hardware
        assert row["first call ms"] and row["call ms"] and row["streamed call ms"]
    assert "x roofline" in printed and results["machine"]["torch"] == torch.__version__


def test_a_call_from_a_prompt_gives_uint8_frames_of_a_text_of_the_length_asked_for():
    import benchmark_generation
    import measuring

    size = ["--num_frames", "5", "--height", "64", "--width", "64", "--text_length", "7"]
    args = benchmark_generation.parse_args(["--device", "cpu", *size])
    pipeline = measuring.make_pipeline("tiny", "tiny", "cpu", torch.float32)
    measuring.add_text_encoder(pipeline, "tiny")
    videos = benchmark_generation.make_frames(pipeline, 2, args)
    assert [(video.shape, video.dtype.name) for video in videos] == 2 * [((5, 64, 64, 3), "uint8")]
    text, _, mask, _ = pipeline.encode_prompt("a a a a a a")
    assert text.shape == (1, 7, 64) and mask.all() and text.isfinite().all()


def test_generation_without_guidance_needs_half_the_operations(run_benchmark):
    size = ["--tokenizer", "tiny", "--num_frames", 1, "--height", 64, "--width", 64]
    with_guidance = run_benchmark("benchmark_generation.py", *size)[1]["rows"][0]
    without = run_benchmark("benchmark_generation.py", *size, "--guidance_scale", 1)[1]["rows"][0]
    assert without["TFLOP"] == pytest.approx(with_guidance["TFLOP"] / 2)


def test_generation_with_graphs_on_a_cpu_says_that_it_cannot(run_benchmark, capsys):
    with pytest.raises(SystemExit):
        run_benchmark("benchmark_generation.py", "--tokenizer", "tiny", "--modes", "graphed")
    assert "error: CUDA graphs need the transformer on a CUDA device" in capsys.readouterr().err


def test_generation_with_int8_weights(run_benchmark):
    pytest.importorskip("torchao.quantization", exc_type=ImportError)
    size = ["--tokenizer", "tiny", "--num_frames", 1, "--height", 64, "--width", 64]
    rows = run_benchmark("benchmark_generation.py", *size, "--quantize", "int8")[1]["rows"]
    assert_positive_numbers(rows[0])


@pytest.mark.parametrize(("name", "message"), [("fp8", "needs `--device cuda`"), ("int8", "needs torchao")])
def test_what_cannot_be_quantised_says_what_it_needs(run_benchmark, monkeypatch, capsys, name, message):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(SystemExit):
        run_benchmark("benchmark_generation.py", "--tokenizer", "tiny", "--quantize", name)
    assert f"error: `--quantize {name}` {message}" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["integrated", "measured"])
def test_decode_order(run_benchmark, method):
    patterns = ["frame and scale", "row-parallel, 16x16 grid (NBP, PAR-16x)"]
    printed, results = run_benchmark("benchmark_decode_order.py", "--method", method, "--patterns", *patterns)
    rows = results["rows"]
    assert [(row["steps"], row["tokens"]) for row in rows] == [(30, 650), (95, 1280)]
    assert rows[0]["x frame and scale"] == 1
    for row in rows:
        assert_positive_numbers(row)
        assert row["method"] == method
    assert method in printed


@pytest.mark.parametrize("script", ["benchmark_decode_order.py", "benchmark_streaming.py", "benchmark_tokenizer.py"])
def test_graphs_on_a_cpu_are_refused(run_benchmark, capsys, script):
    with pytest.raises(SystemExit):
        run_benchmark(script, "--cuda_graphs")
    assert "`--cuda_graphs` needs `--device cuda`" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.parametrize("flags", [[], ["--compile"]])
def test_decode_order_with_graphs(run_benchmark, flags):
    on_gpu = ["--device", "cuda", "--dtype", "bfloat16", "--cuda_graphs", "--cache_lengths", 2]
    rows = run_benchmark("benchmark_decode_order.py", *on_gpu, *flags)[1]["rows"]
    assert [row["steps"] for row in rows] == [30, 320, 95, 323, 1280]
    for row in rows:
        assert_positive_numbers(row)


def test_streaming(run_benchmark, tmp_path):
    size = ["--num_frames", 24, "--num_frames_without_window", 6, "--window", 2, "--height", 64, "--width", 64]
    _, results = run_benchmark("benchmark_streaming.py", *size, "--turns", 10, "--plot", tmp_path / "plot.svg")
    caches = {row["video"]: row["cache MB"] for row in results["rows"]}
    assert caches["no window"] > caches["window of 2"]
    assert_positive_numbers(results["comparison"])
    plot = xml.etree.ElementTree.parse(tmp_path / "plot.svg").getroot()
    assert len(plot.findall("{http://www.w3.org/2000/svg}polyline")) == 2


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_training(run_benchmark):
    size = ["--num_latent_frames", 2, "--latent_height", 4, "--latent_width", 4, "--batch_sizes", 1, 3]
    _, results = run_benchmark("benchmark_training.py", *size, "--mixed_precision", "bf16", "--peak_tflops", 1)
    assert [row["batch"] for row in results["rows"]] == [1, 3]
    for row in results["rows"]:
        assert_positive_numbers(row)
        assert row["MFU"] < 1


@pytest.fixture
def fresh_accelerator():
    """accelerate keeps the precision of a process's first `Accelerator` for all others."""
    for when in ("before", "after"):
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        if when == "before":
            yield


def folding_flops(vae):
    """Operations of folding the weights of the upsamplers, which every decoded chunk does."""
    convolutions = [module for module in vae.modules() if isinstance(module, VideoARUpsamplingConv3d)]
    return sum(2 * convolution.weight.numel() * convolution.fold.shape[1] for convolution in convolutions)


def test_tokenizer(run_benchmark, fresh_accelerator):
    import measuring

    size = ["--num_frames", 5, "--height", 32, "--width", 32, "--threads", 1, "--peak_tflops", 1]
    printed, results = run_benchmark("benchmark_tokenizer.py", *size, "--gradient_checkpointing")
    rows = {row["part"]: row for row in results["rows"]}
    assert list(rows)[:4] == ["encode", "decode", "stream", "quantize"] and len(rows) == 8
    for row in rows.values():
        assert_positive_numbers(row)
        assert row["part"] == "quantize" or row["x conv"] > 1  # nothing is faster than the hardware
    operations = {part: round(1e12 * rows[part]["TFLOP"]) for part in ("decode", "stream")}
    assert operations["stream"] == operations["decode"] + folding_flops(AutoencoderVideoAR(**measuring.TINY_VAE))
    assert rows["train"]["TFLOP"] < rows["train+gan"]["TFLOP"] < rows["train+perceptual+gan"]["TFLOP"]
    assert set(results["rates"]) == {"float32"} and "x conv" in printed


def test_tokenizer_with_compiled_norms_counts_the_same_operations(run_benchmark, fresh_accelerator):
    size = ["--num_frames", 5, "--height", 32, "--width", 32, "--threads", 1, "--parts", "decode", "train+gan"]
    eager, compiled = (run_benchmark("benchmark_tokenizer.py", *size, *flags)[1] for flags in ([], ["--compile"]))
    for before, after in zip(eager["rows"], compiled["rows"], strict=True):
        assert_positive_numbers(after)
        assert after["TFLOP"] == before["TFLOP"]


def test_convolutions(run_benchmark):
    rows = run_benchmark("benchmark_convolutions.py", "--layers", "8:16:5:12", "8:8:1:6")[1]["rows"]
    assert [row["GFLOP"] * 1e9 for row in rows] == [2 * 5 * 12**2 * 16 * 8 * 27, 2 * 6**2 * 8 * 8 * 27]
    for row in rows:
        assert_positive_numbers(row)


@torch.no_grad()
def test_the_forms_of_a_convolution_compute_the_same(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    script = runpy.run_path(str(FOLDER / "benchmark_convolutions.py"))
    outputs = []
    monkeypatch.setitem(
        script["benchmark"].__wrapped__.__globals__, "median_seconds", lambda call, args: outputs.append(call()) or 1
    )
    torch.manual_seed(0)
    script["benchmark"]("8:16:5:6", script["parse_args"](["--device", "cpu"]))
    channels_first, channels_last, _, volume = outputs
    torch.testing.assert_close(channels_last, channels_first)
    torch.testing.assert_close(volume[0].transpose(0, 1), channels_first, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer", ["8:8:5", "8:8:5:x", "0:8:5:8"])
def test_a_layer_that_is_none_is_named(run_benchmark, capsys, layer):
    with pytest.raises(SystemExit):
        run_benchmark("benchmark_convolutions.py", "--layers", layer)
    assert f"`--layers {layer}` must be four positive numbers" in capsys.readouterr().err


def test_features(run_benchmark):
    arguments = ["--num_frames", 9, "--side", 32, "--batch_size", 1, "--threads", 1]
    printed, results = run_benchmark("benchmark_features.py", *arguments)
    assert [row["part"] for row in results["rows"]] == ["network", "network, resizing, motion", "from files"]
    for row in results["rows"]:
        assert_positive_numbers(row)
    assert 25 < results["rates"]["gflop_per_clip"] < 40 and "GFLOP a clip" in printed


def test_contention(tmp_path, monkeypatch, capsys):
    output = tmp_path / "results.json"
    size = ["--num_frames", 1, "--busy", 0, 1, "--ways", "script", "--repeats", 2, "--warm_ups", 0, "--output", output]
    monkeypatch.setattr(sys, "argv", ["benchmark_contention.py", *map(str, size)])
    runpy.run_path(str(FOLDER / "benchmark_contention.py"), run_name="__main__")
    results = json.loads(output.read_text())
    assert [row["busy"] for row in results["rows"]] == [0, 1]
    for row in results["rows"]:
        assert_positive_numbers({name: value for name, value in row.items() if name != "busy"})
        assert row["median s"] <= row["worst s"]
    assert results["rows"][0]["x calm"] >= 1 and "x calm" in capsys.readouterr().out


# 2. What they count


def meta_transformer(config):
    import measuring

    with torch.device("meta"):
        return VideoARTransformer3DModel(**measuring.CONFIGS[config])


@pytest.mark.parametrize("fused", [False, True])
def test_operations_of_a_step_are_those_that_pytorch_counts(fused):
    import measuring
    from torch.utils.flop_counter import FlopCounterMode

    transformer = meta_transformer("tiny")
    if fused:
        transformer.fuse_qkv_projections()
    kv_cache = transformer.make_cache(2, 0, 30, 3)
    kv_cache.cursor.length = kv_cache.cursor.num_written = 30
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        transformer(torch.zeros(2, 16, 48, device="meta"), video_token_ids(((4, 4),), 1, 1, "meta"), kv_cache=kv_cache)
    counts = counter.get_flop_counts()
    counted = sum(sum(counts[f"VideoARTransformer3DModel.blocks.{index}"].values()) for index in range(2))
    # PyTorch's counter knows the attention of GPUs only; on the meta device it counts the products that make it up.
    assert measuring.step_flops(transformer, 16, 46, 2) == counted


def test_bytes_of_a_step_are_those_of_weights_and_cache():
    import measuring

    transformer = meta_transformer("tiny")
    weights = sum(parameter.nbytes for name, parameter in transformer.blocks.named_parameters() if parameter.ndim == 2)
    read = measuring.step_bytes(transformer, 46, 2)
    transformer.fuse_qkv_projections()
    assert measuring.step_bytes(transformer, 46, 2) == read  # matrices that a fused one replaces are not read
    assert read == weights + 2 * 2 * 2 * 46 * 64 * 4  # keys and values, layers, sequences, tokens, channels, bytes
    assert measuring.step_bytes(transformer, 46, 2, weight_bytes=1) == read - weights * 3 // 4


@pytest.mark.parametrize("window", [None, 2, 9])
@pytest.mark.parametrize("config", ["L", "XL", "4B"])
def test_bytes_of_the_cache_are_those_that_it_allocates(config, window):
    import measuring

    transformer = meta_transformer(config)
    kv_cache = transformer.make_cache(2, 32, 130, 5, window)
    allocated = kv_cache.keys.nbytes + kv_cache.values.nbytes
    assert measuring.cache_bytes(transformer, 2, 32, 130, 5, window) == allocated


def test_steps_of_a_generation_fill_the_cache():
    import measuring

    assert measuring.generation_steps(((1, 1), (2, 3)), 2, 5) == [(1, 6), (6, 12), (1, 13), (6, 19)]


@pytest.mark.parametrize("config", ["tiny", "paper"])
def test_training_a_tokenizer_needs_three_times_the_operations_but_for_the_gradient_of_pixels(config):
    import benchmark_tokenizer

    size = ["--num_frames", "9", "--height", "32", "--width", "32", "--gradient_checkpointing"]
    args = benchmark_tokenizer.parse_args(["--device", "cpu", "--config", config, *size])
    counts = {part: benchmark_tokenizer.count_flops(part, args) for part in ("encode", "decode", "stream", "train")}
    vae = benchmark_tokenizer.make_models("train", args, "meta")[0]
    positions = {"tiny": 3 * 8**2, "paper": 9 * 32**2}[config]  # frames, height and width after the first convolution
    folding = folding_flops(vae)  # once a chunk, times a matrix that is not trained
    assert counts["stream"] == counts["decode"] + 2 * folding
    pixels = 2 * positions * vae.encoder.conv_in.weight.numel()
    assert counts["train"] == 3 * (counts["encode"] + counts["decode"]) - pixels - folding


def test_interpolated_costs_add_up_to_the_exact_sum_of_linear_costs():
    import benchmark_decode_order

    pattern = [1, 4, 4, 1, 1, 4]
    starts = [0, 1, 5, 9, 10, 11]
    exact = {num_tokens: lambda start, n=num_tokens: 3.0 * n + 0.5 * start for num_tokens in (1, 4)}
    costs = {1: [(0, exact[1](0)), (10, exact[1](10))], 4: [(1, exact[4](1)), (6, exact[4](6)), (11, exact[4](11))]}
    expected = sum(exact[num_tokens](start) for num_tokens, start in zip(pattern, starts))
    assert benchmark_decode_order.integrate(pattern, costs) == pytest.approx(expected)


def timers_of_orders(runners, device):
    """Of `benchmark_decode_order.py`, alike but for how they run their steps; and the starts of all steps of every order."""
    import benchmark_decode_order
    import measuring

    args = benchmark_decode_order.parse_args(["--device", device])
    torch.manual_seed(0)
    transformer = measuring.make_random(VideoARTransformer3DModel, measuring.CONFIGS["tiny"], device, torch.float32)
    inputs, timers = None, []
    for runner in runners:
        timer = benchmark_decode_order.StepTimer(transformer, args)
        inputs = timer.inputs if inputs is None else inputs
        timer.runner, timer.inputs = runner, inputs
        timers.append(timer)
    orders = benchmark_decode_order.PATTERNS
    steps = {name: list(zip(order, [0, *itertools.accumulate(order)])) for name, order in orders.items()}
    return timers, steps


def assert_same_logits(eager, recorded, steps):
    """Of the first and last three steps of every order, recorded and then replayed."""
    for order in steps.values():
        for num_tokens, start in [*order[:3], *order[-3:]]:
            expected = eager.run(num_tokens, start)
            assert expected.isfinite().all() and expected.shape[1] == num_tokens
            for _ in range(2):
                torch.testing.assert_close(recorded.run(num_tokens, start), expected, rtol=0, atol=0)


@torch.no_grad()
def test_recorded_steps_of_every_order_are_the_steps_without_graphs():
    runner = RepeatedRunner()
    (eager, recorded), steps = timers_of_orders([EagerRunner(), runner], "cpu")
    assert_same_logits(eager, recorded, steps)
    chosen = {step for order in steps.values() for step in [*order[:3], *order[-3:]]}
    assert runner.steps.num_recorded == len(chosen)  # a graph for every number of tokens and fill level, none twice


@pytest.mark.gpu
@torch.no_grad()
def test_graphs_of_every_order_give_the_logits_of_the_steps_without_graphs():
    timers, steps = timers_of_orders([EagerRunner(), CUDAGraphRunner()], "cuda")
    assert_same_logits(*timers, steps)


@torch.no_grad()
def test_steps_of_an_order_take_nothing_from_the_host():
    (timer,), steps = timers_of_orders([EagerRunner()], "meta")
    with NothingFromTheHost():
        for num_tokens, start in steps["frame and scale"][:7]:
            timer.run(num_tokens, start)


# 3. InfinityStar


def test_infinitystar(run_benchmark):
    printed, results = run_benchmark("benchmark_infinitystar.py", "--config", "tiny")
    assert [(row["passes"], row["tokens"]) for row in results["rows"]] == [(22, 3520), (63, 7936)]
    for row in results["rows"]:
        assert_positive_numbers(row)
    assert "x operations" in printed


def test_counting_the_memory_of_infinitystar(tmp_path, monkeypatch):
    output = tmp_path / "memory.json"
    arguments = ["--tiny", "--sizes", "480p", "--seconds", "1", "--chunk_size", "64", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["count_infinitystar_memory.py", *arguments])
    runpy.run_path(str(FOLDER / "count_infinitystar_memory.py"), run_name="__main__")
    rows = json.loads(output.read_text())["rows"]
    assert len(rows) == 16
    for row in rows:
        assert_positive_numbers(row)
        peak = max(row["pass GB"], row["decode GB"])
        assert row["total GB"] == pytest.approx(row["weights GB"] + row["cache GB"] + peak)
    passes = {(row["branches"], row["SwiGLU"]): row["pass GB"] for row in rows}
    assert passes["in turn", "chunked"] < passes["in turn", "whole"] < passes["together", "whole"]
    assert torch.get_default_dtype() == torch.float32


def test_live_bytes_counts_storages_once_and_only_while_they_live():
    from count_infinitystar_memory import LiveBytes

    weight = torch.zeros(1000, device="meta")
    with LiveBytes() as live:
        first = torch.empty(100, device="meta")
        view = first[:50]
        assert live.now == 400 and weight[:10].numel() == 10 and live.now == 400
        del first
        assert live.now == 400  # the view holds it
        second = view + 1
        assert live.now == 600
        del view
        assert live.now == 200 and live.peak == 600
        del second
    assert live.now == 0
