# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Every benchmark runs from its command line at tiny size, and what it counts is right."""

import json
import math
import runpy
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest
import torch

from videoar_pipelines import VideoARTransformer3DModel
from videoar_pipelines.models.token_layout import video_token_ids


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
    )
    assert [row["batch"] for row in results["rows"]] == [1, 2]
    for row in results["rows"]:
        assert_positive_numbers(row)
        assert row["tokens"] == 2 * (1 + 4 + 9 + 16)
        assert row["x flops"] > 1 and row["x roofline"] > 1  # nothing is faster than the hardware
    assert "x roofline" in printed and results["machine"]["torch"] == torch.__version__


def test_generation_without_guidance_needs_half_the_operations(run_benchmark):
    size = ["--tokenizer", "tiny", "--num_frames", 1, "--height", 64, "--width", 64]
    with_guidance = run_benchmark("benchmark_generation.py", *size)[1]["rows"][0]
    without = run_benchmark("benchmark_generation.py", *size, "--guidance_scale", 1)[1]["rows"][0]
    assert without["TFLOP"] == pytest.approx(with_guidance["TFLOP"] / 2)


def test_generation_with_graphs_on_a_cpu_says_that_it_cannot(run_benchmark, capsys):
    with pytest.raises(SystemExit):
        run_benchmark("benchmark_generation.py", "--tokenizer", "tiny", "--modes", "graphed")
    assert "error: CUDA graphs need the transformer on a CUDA device" in capsys.readouterr().err


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


def test_interpolated_costs_add_up_to_the_exact_sum_of_linear_costs():
    import benchmark_decode_order

    pattern = [1, 4, 4, 1, 1, 4]
    starts = [0, 1, 5, 9, 10, 11]
    exact = {num_tokens: lambda start, n=num_tokens: 3.0 * n + 0.5 * start for num_tokens in (1, 4)}
    costs = {1: [(0, exact[1](0)), (10, exact[1](10))], 4: [(1, exact[4](1)), (6, exact[4](6)), (11, exact[4](11))]}
    expected = sum(exact[num_tokens](start) for num_tokens, start in zip(pattern, starts))
    assert benchmark_decode_order.integrate(pattern, costs) == pytest.approx(expected)


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
