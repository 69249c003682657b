# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Wrong arguments and broken files, drawn at random from a seed. Whatever comes in, there is an error that names it, or a right result,
and nothing stays behind.
"""

import functools
import io
import json
import math
import random
import shutil
import zlib

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers.utils import logging

from tests.tiny_components import make_tiny_pipeline, make_tiny_transformer, make_tiny_vae
from videoar_pipelines import VideoARPipeline, VideoARScheduler
from videoar_pipelines.data.manifest import read_manifest
from videoar_pipelines.utils.video_io import load_image, load_video, save_video


NAN, INF = math.nan, math.inf
PROMPT = "a red circle"
SMALL = {"height": 32, "width": 32, "num_frames": 5}


@pytest.fixture(scope="module")
def pipe():
    return make_tiny_pipeline()


@pytest.fixture(autouse=True)
def quiet():
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    yield
    logging.set_verbosity(verbosity)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def first_video(pipe):
    return pipe(PROMPT, generator=generator(), refinements=[1], output_type="pt", **SMALL).frames


def image(mode="RGB", size=(32, 32)):
    return PIL.Image.new(mode, size)


STATES = torch.randn(1, 4, 16, generator=generator())

# By argument: values that work, alone or together, and values that never do.
GOOD = {
    "negative_prompt": [None, "a square", ""],
    "height": [16, 32, 48],
    "width": [16, 32],
    "num_frames": [1, 5, 9, np.int64(5)],
    "guidance_scale": [None, 0, 1.0, 3.0, -1, 1e6, np.float64(2.0)],
    "num_videos_per_prompt": [1, 2],
    "generator": [None, generator(1)],
    "temperature": [None, 0, 0.5, [1.0, 0.5], (1.0,), 1e-300],
    "top_p": [None, 0.5, 1],
    "refinements": [None, [], [1], (1, 1)],
    "window": [None, 1, 5],
    "sink_size": [0, 1],
    "reencode_at": [None, 2, 3],
    "frame_conditions": [None, {}],
    "output_type": ["np", "pt", "pil", "latent"],
    "attention_kwargs": [None, {}, {"scale": 0.5}],
    "callback_on_step_end": [None, lambda *arguments: {}, lambda *arguments: arguments[3]],
    "callback_on_step_end_tensor_inputs": [["latents"], ["latents", "prompt_embeds"], []],
    "max_sequence_length": [None, 1, 16],
    "video": [None, image(), [image()], torch.rand(1, 3, 32, 32), np.zeros((1, 40, 30, 3), np.float32)],
}
NO_INTEGERS = ["17", 17.0, 2.5, NAN, INF, [1], True, -1, 0, {}, "a"]
NO_NUMBERS = ["1", NAN, INF, [[1.0]], {}, 10**400, 1j, True]
BAD = {
    "prompt": [None, 3, [None], ["a", 3], [], {"a": 1}, b"a", np.array(["a"]), [["a"]]],
    "negative_prompt": [3, [None], ["a", 3], ["a", "b"], b"a", []],
    "height": [*NO_INTEGERS, 50],
    "width": [*NO_INTEGERS, 8],
    "num_frames": [*NO_INTEGERS, 8],
    "guidance_scale": NO_NUMBERS,
    "num_videos_per_prompt": NO_INTEGERS,
    "generator": [0, "a", [0], [generator()] * 3, [None], torch.Generator, np.random.default_rng(0)],
    "latents": [NAN, 0, torch.rand(1, 2, 3), [1], "a", np.zeros((1, 2, 3))],
    "prompt_embeds": [STATES],  # together with a prompt
    "negative_prompt_embeds": [STATES[0], STATES[:, :0], STATES * NAN, STATES.long(), STATES.repeat(1, 9, 1), 3],
    "prompt_attention_mask": [torch.ones(1, 4), torch.zeros(1, 4), 3],  # without embeddings
    "negative_prompt_attention_mask": [torch.ones(1, 4)],
    "temperature": [*NO_NUMBERS, -1, [], [NAN], [1.0, -1.0], ["a"]],
    "top_p": [*NO_NUMBERS, 0, -1, 2],
    "refinements": [3, [0], [99], [-1], ["a"], [1.0], "12", [[1]], {1}, [True]],
    "window": NO_INTEGERS,
    "sink_size": ["1", 1.0, 2.5, NAN, INF, [1], True, None, -1, {}, "a"],
    "reencode_at": [*NO_INTEGERS, 1],
    "context_frames": [*NO_INTEGERS, 5],  # without `reencode_at`
    "frame_conditions": [3, [], {"a": torch.zeros(1, 2, 3)}, "a"],
    "output_type": ["mp4", None, 3, ["np"], ""],
    "attention_kwargs": [3, "a", [], {"scale": "a"}, {"scale": NAN}, {"strength": 1}, {1: 2}, {"scale": None}],
    "callback_on_step_end": [
        *(3, "a"),
        *(lambda *arguments: None, lambda *arguments: 3, lambda *arguments: {"latents": None}),
        *(lambda *arguments: {"latents": torch.zeros(1)}, lambda *arguments: {"prompt_embeds": torch.zeros(1, 2, 16)}),
        lambda *arguments: {"latents": NAN * arguments[3].get("latents", torch.zeros(1))},
    ],
    "callback_on_step_end_tensor_inputs": [["x"], "latents", None, 3, [3]],
    "max_sequence_length": [*NO_INTEGERS, 17],
    "video": [
        *(3, [], [3], "a.mp4", [None], {}, np.array(3.0), image("I;16"), [image(), image("I")]),
        *(torch.full((1, 3, 32, 32), value) for value in (NAN, 7.0)),
        *(torch.rand(2, 3, 32, 32), torch.rand(1, 3, 0, 32), torch.rand(1, 2, 32, 32), [image(), image(size=(9, 9))]),
    ],
}


@pytest.mark.parametrize("seed", range(4))
def test_a_call_with_any_arguments_is_right_or_refused_by_name(pipe, seed):
    draw = random.Random(seed)
    num_results = num_errors = 0
    for _ in range(100):
        names = draw.sample(sorted(GOOD), draw.randint(1, 4))
        arguments = {name: draw.choice(GOOD[name]) for name in names}
        bad = draw.choice(sorted(BAD)) if draw.random() < 0.7 else None
        if bad is not None:
            arguments[bad] = draw.choice(BAD[bad])
        arguments = {"prompt": PROMPT, "generator": generator()} | SMALL | arguments
        try:
            with torch.inference_mode(draw.random() < 0.5):
                output = pipe(**arguments).frames
        except ValueError as error:
            # Values that work alone may not work together: then one of those is named.
            assert any(f"`{name}" in str(error) or f"({name})" in str(error) for name in arguments), error
            num_errors += 1
        else:
            assert bad is None, (bad, arguments[bad])
            check_video(output, arguments)
            num_results += 1
    assert num_results > 15 and num_errors > 50
    assert torch.equal(first_video(pipe), first_video(make_tiny_pipeline())), "something stayed behind"


def check_video(output, arguments):
    output_type = arguments.get("output_type", "np")
    num_videos = arguments.get("num_videos_per_prompt", 1)
    assert len(output) == num_videos
    if output_type == "pil":
        assert {len(video) for video in output} == {arguments["num_frames"]}
        return
    output = torch.as_tensor(output)
    assert torch.isfinite(output).all()
    height, width, num_frames = (arguments[name] for name in ("height", "width", "num_frames"))
    expected = {
        "np": (num_videos, num_frames, height, width, 3),
        "pt": (num_videos, num_frames, 3, height, width),
        "latent": (num_videos, 8, 1 + num_frames // 4, height // 16, width // 16),
    }
    assert output.shape == expected[output_type]


@pytest.mark.parametrize("guidance_scale", [3.0, 1.0])
@pytest.mark.parametrize("side", ["", "negative_"])
@pytest.mark.parametrize(
    "states, mask",
    [
        (STATES[0], None),
        (STATES.numpy(), None),
        (STATES.long(), None),
        (STATES * NAN, None),
        (STATES[:, :0], None),
        (STATES[..., :15], None),
        (STATES.repeat(1, 10, 1), None),  # 40 tokens
        (STATES.to("meta"), None),
        (STATES, torch.ones(1, 5)),
        (STATES, torch.ones(4)),
        (STATES, torch.full((1, 4), NAN)),
        (STATES, torch.zeros(1, 4)),
        (STATES, torch.tensor([[0, 1, 1, 1]])),  # padding before the text
        (STATES, torch.tensor([[1, 5, -1, 0]])),
        (STATES, np.ones((1, 4))),
    ],
)
def test_text_states_that_make_no_sense_are_refused_with_and_without_guidance(
    pipe, states, mask, side, guidance_scale
):
    arguments = {f"{side}prompt_embeds": states, f"{side}prompt_attention_mask": mask}
    with pytest.raises(ValueError, match=f"`{side}prompt_(embeds|attention_mask)`"):
        pipe(**({"prompt": PROMPT} if side else {}), guidance_scale=guidance_scale, **arguments, **SMALL)
    with pytest.raises(ValueError, match=f"`{side}prompt_(embeds|attention_mask)`"):
        pipe.encode_prompt(PROMPT if side else None, **arguments)


# 2. Configurations


@pytest.mark.parametrize(
    "make, config",
    [
        (make_tiny_transformer, dict(make_tiny_transformer().config)),
        (make_tiny_vae, dict(make_tiny_vae().config)),
        (VideoARScheduler, dict(VideoARScheduler().config)),
    ],
    ids=["transformer", "vae", "scheduler"],
)
def test_a_configuration_with_a_value_without_meaning_is_refused_by_name(make, config):
    for name in config:
        if name.startswith("_"):
            continue
        for value in ("a", -1, NAN, {"a": 1}, [None], 10**400):
            if make is VideoARScheduler and name == "guidance_scale" and value == -1:
                continue  # off
            with pytest.raises(ValueError, match=f"`{name}"):
                make(**{name: value})


@pytest.mark.parametrize(
    "change",
    [
        *({"temperature": -1}, {"top_p": 5}, {"guidance_scale": NAN}, {"refinements": [0]}, {"refinements": "ab"}),
        *(
            {"scale_schedules": {"8x8": [[1, 1]]}},
            {"scale_schedules": {"8": [[8, 8]]}},
            {"scale_schedules": {"8x8": 3}},
        ),
        *({"guidance_end": 2}, {"previous_frame_context": "none"}, {"corruption_max": "a"}),
    ],
    ids=str,
)
def test_a_scheduler_file_with_a_bad_value_is_refused(change, tmp_path):
    VideoARScheduler().save_pretrained(tmp_path)
    path = tmp_path / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match="`" + next(iter(change)).rstrip("s")):
        VideoARScheduler.from_pretrained(tmp_path)


# 3. Files


def damaged(data, draw):
    """`data` cut off, with other bytes here and there, without a piece, or nothing but noise."""
    kind, start = draw.randrange(4), draw.randrange(len(data))
    if kind == 0:
        return data[:start]
    if kind == 1:
        changed = bytearray(data)
        for _ in range(draw.randint(1, 20)):
            changed[draw.randrange(len(data))] = draw.randrange(256)
        return bytes(changed)
    if kind == 2:
        return data[:start] + data[start + draw.randint(1, 400) :]
    return draw.randbytes(draw.randint(0, 2000))


def read_damaged(path, data, read, check, number):
    """Reads `number` damaged files: each is an error that names the file, or something that `check` takes for a result."""
    draw = random.Random(str(path.name))
    num_errors = 0
    for _ in range(number):
        path.write_bytes(damaged(data, draw))
        try:
            result = read(path)
        except ValueError as error:
            assert str(path) in str(error), error
            num_errors += 1
        else:
            check(result)
    assert num_errors > 0


def noise_frames():
    return np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_damaged_videos(suffix, tmp_path):
    path = tmp_path / f"video{suffix}"
    save_video(noise_frames(), path)

    def check(result):
        video, fps = result
        assert video.shape[0] == 3 and video.ndim == 4 and video.abs().max() <= 1 and 0 < fps < INF

    read_damaged(path, path.read_bytes(), load_video, check, number=20)


@pytest.mark.parametrize("suffix", ["png", "jpeg", "bmp", "webp"])
def test_damaged_images(suffix, tmp_path):
    data = io.BytesIO()
    PIL.Image.fromarray(noise_frames()[0]).save(data, suffix)

    def check(result):
        assert result.shape == (24, 16, 3) and result.dtype == np.uint8

    read = functools.partial(load_image, height=24, width=16)
    read_damaged(tmp_path / f"image.{suffix}", data.getvalue(), read, check, number=20)


@pytest.mark.parametrize("size", [(1_000_000, 1), (1, 1_000_000), (100_000, 100_000)])
def test_an_image_of_too_many_pixels_is_refused_before_it_takes_memory(size, tmp_path):
    path = tmp_path / "image.png"
    image("L", (1, 1)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(ValueError, match="pixels"):
        load_image(path, 64, 64)


def test_videos_at_no_rate_that_there_is_are_refused(tmp_path):
    save_video(noise_frames(), tmp_path / "video.mp4")
    for fps in (INF, NAN, 0, -1):
        with pytest.raises(ValueError, match="`fps` must be positive"):
            load_video(tmp_path / "video.mp4", fps=fps)


MANIFESTS = {
    "manifest.jsonl": '{"file": "a.mp4", "caption": "a red circle", "height": 64}\n{"file": "b.png", "caption": "x"}\n',
    "manifest.csv": 'file,caption,height\na.mp4,a red circle,64\nb.png,"x, y",32\n',
}


@pytest.mark.parametrize("name", sorted(MANIFESTS))
def test_damaged_manifests(name, tmp_path):
    def check(table):
        assert len(table) > 0 and table.sizes.min() >= 0 and len(table.captions) == len(table.files) == len(table)

    read_damaged(tmp_path / name, MANIFESTS[name].encode(), lambda path: read_manifest(str(path)), check, number=40)


@pytest.mark.parametrize(
    "row",
    [
        '{"file": "c.mp4", "caption": "c", "height": Infinity}',
        '{"file": "c.mp4", "caption": "c", "height": 1e400, "width": -3}',
        '{"file": "c.mp4", "caption": "c", "height": 99999999999}',
        '{"file": "c.mp4", "caption": "c", "height": ' + "9" * 5000 + "}",
        "[" * 100_000,
        '{"file": ["c.mp4"], "caption": "c"}',
        '{"file": "c.mp4", "caption": 3}',
    ],
    ids=lambda row: row[:45],
)
def test_an_odd_row_of_a_manifest_does_not_end_the_run(row, tmp_path):
    path = tmp_path / "manifest.jsonl"
    path.write_text(MANIFESTS[path.name] + row + "\n")
    table = read_manifest(str(path))
    assert len(table) == 3 and table.sizes[2].tolist() == [0, 0] and set(table.unusable) <= {2}


@pytest.mark.parametrize(("caption", "is_usable"), [("c" * 140_000, True), ("c\0d", False)], ids=["long", "zero"])
def test_an_odd_row_of_a_table_does_not_end_the_run(caption, is_usable, tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text(MANIFESTS[path.name] + f"c.mp4,{caption},3\n")
    assert set(read_manifest(str(path)).unusable) == (set() if is_usable else {2})


def test_broken_folders_of_a_pipeline(tmp_path):
    draw = random.Random(0)
    whole = tmp_path / "whole"
    make_tiny_pipeline().save_pretrained(whole)
    ours = [path.relative_to(whole) for path in sorted(whole.rglob("*.*")) if "text_encoder" not in str(path.parent)]
    ours = [path for path in ours if "tokenizer" not in str(path.parent)]  # the library of these has errors of its own
    # What is read by other loaders than this one, or by people.
    ours = [path for path in ours if path.suffix not in (".py", ".md") and path.name != "modular_config.json"]
    for number in range(24):
        folder = tmp_path / f"broken{number}"
        shutil.copytree(whole, folder)
        path = folder / ours[number % len(ours)]
        if number % 3 == 0:
            path.unlink()
        else:
            data = path.read_bytes()
            path.write_bytes(data[: draw.randrange(len(data))] if number % 3 == 1 else draw.randbytes(200))
        with pytest.raises((OSError, ValueError), match=f"{folder.name}|{path.parent.name}"):
            VideoARPipeline.from_pretrained(folder, local_files_only=True)
        shutil.rmtree(folder)
