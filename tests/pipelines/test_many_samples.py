# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny_components import make_tiny_pipeline
from videoar_pipelines.pipelines import many_samples
from videoar_pipelines.pipelines.many_samples import (
    ProcessShare,
    Sample,
    SampleFolder,
    VideoProgress,
    sample_many,
    seed_of,
)
from videoar_pipelines.utils import VideoWriter
from videoar_pipelines.utils.video_io import frames_to_uint8


PROMPTS = [
    "a red circle",
    "a blue square moves to the left",
    "a green circle moves down on white",
    "a circle",
    "a square",
]
SAMPLES = [Sample(f"{index:06d}", prompt, {"index": index}) for index, prompt in enumerate(PROMPTS)]
OPTIONS = {"num_frames": 5, "height": 32, "width": 32, "top_p": 0.9}


@pytest.fixture(scope="module")
def pipe():
    return make_tiny_pipeline()


def open_folder(path, samples=SAMPLES, settings=OPTIONS, run_seed=0, video_format="npy"):
    return SampleFolder(path, samples, settings, run_seed, video_format, fps=8)


def run(pipe, path, samples=SAMPLES, batch_size=2, share=ProcessShare(), **kwargs):
    sample_many(pipe, samples, open_folder(path, samples, **kwargs), OPTIONS, batch_size, share)
    return path


def read(path):
    """Every file of a folder, by its name relative to it."""
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def whole(pipe, tmp_path_factory):
    return read(run(pipe, tmp_path_factory.mktemp("whole")))


# 1. Shares


def test_shares_of_all_processes_make_the_whole():
    for count in (1, 2, 3, 7):
        shares = [ProcessShare(index, count).of(range(10)) for index in range(count)]
        assert sorted(batch for share in shares for batch in share) == list(range(10))


def test_a_process_learns_its_share_from_its_launcher(monkeypatch):
    assert ProcessShare.from_environment({}) == ProcessShare(0, 1, 0)
    variables = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    assert ProcessShare.from_environment(variables) == ProcessShare(5, 8, 1)


def test_a_process_without_a_device_is_refused(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert ProcessShare(3, 4, 1).device() == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="LOCAL_RANK.*2, but this machine has 2 device"):
        ProcessShare(2, 4, 2).device()


def test_seeds_of_near_runs_have_nothing_in_common():
    seeds = {seed_of(run_seed, f"{index:06d}") for run_seed in range(10) for index in range(100)}
    assert len(seeds) == 1000 and max(seeds) < 2**53
    assert seed_of(0, "000000") == 270507365604237  # for good: records name it


# 2. Files


def test_any_number_of_processes_writes_the_same_files(pipe, whole, tmp_path):
    assert set(whole) == {"samples.jsonl", *(f"videos/{sample.name}.npy" for sample in SAMPLES)}
    for count in (2, 3):
        path = tmp_path / str(count)
        for index in reversed(range(count)):  # the first one waits for the others
            run(pipe, path, share=ProcessShare(index, count))
        assert read(path) == whole


def test_a_run_that_was_stopped_continues_with_the_same_files(pipe, whole, tmp_path, monkeypatch):
    for stop_after in range(len(SAMPLES)):
        path = tmp_path / str(stop_after)
        saved = []
        original = SampleFolder.save

        def save(folder, sample, *frames):
            if len(saved) == stop_after:
                (path / ".unfinished").mkdir(exist_ok=True)
                (path / ".unfinished" / "half.npy").touch()  # what a kill while writing leaves
                raise KeyboardInterrupt
            saved.append(sample)
            original(folder, sample, *frames)

        with monkeypatch.context() as patch:
            patch.setattr(SampleFolder, "save", save)
            with pytest.raises(KeyboardInterrupt):
                run(pipe, path)
        assert len(list((path / "videos").iterdir())) == stop_after
        assert read(run(pipe, path)) == whole


def test_finished_videos_are_not_made_again(pipe, whole, tmp_path, monkeypatch, capsys):
    run(pipe, tmp_path)
    monkeypatch.setattr(type(pipe), "__call__", None)
    assert read(run(pipe, tmp_path)) == whole
    assert "5 videos in" in capsys.readouterr().out


def test_a_video_can_be_made_again_from_its_record(pipe, whole):
    records = [json.loads(line) for line in whole["samples.jsonl"].splitlines()]
    assert [record["prompt"] for record in records] == PROMPTS
    for record in records:
        generator = torch.Generator().manual_seed(record["seed"])
        video = pipe(record["prompt"], generator=generator, **{name: record[name] for name in OPTIONS}).frames[0]
        sampled = np.load(io.BytesIO(whole[record["file"]]))
        # Alone instead of in a batch of two, where the shorter prompt is padded: equal to the bit with these weights.
        assert np.array_equal(sampled, frames_to_uint8(video))


def test_a_longer_list_continues_a_shorter_one(pipe, whole, tmp_path):
    run(pipe, tmp_path, SAMPLES[:4])
    run(pipe, tmp_path, SAMPLES[:2])  # nothing to do
    assert read(run(pipe, tmp_path)) == whole


def test_mp4_files_hold_the_same_frames_and_their_prompt_as_the_title(pipe, whole, tmp_path):
    run(pipe, tmp_path / "run", SAMPLES[:2], video_format="mp4")
    for sample in SAMPLES[:2]:
        with VideoWriter(tmp_path / "expected.mp4", fps=8, reproducible=True, title=sample.prompt) as writer:
            writer.write(np.load(io.BytesIO(whole[f"videos/{sample.name}.npy"])))
        assert (tmp_path / "run" / "videos" / f"{sample.name}.mp4").read_bytes() == (
            tmp_path / "expected.mp4"
        ).read_bytes()


def test_names_as_long_as_file_names_can_be(pipe, tmp_path):
    samples = [Sample("x" * 251, "a circle")]
    for video_format in ("npy", "mp4"):
        run(pipe, tmp_path / video_format, samples, video_format=video_format)
        assert (tmp_path / video_format / "videos" / f"{'x' * 251}.{video_format}").exists()


# 3. Folders that do not fit


@pytest.mark.parametrize(
    "change, message",
    [
        ({"run_seed": 1}, "seed = 270507365604237"),
        ({"settings": OPTIONS | {"top_p": 0.5}}, "line 1 has top_p = 0.9, this run 0.5"),
        ({"samples": [SAMPLES[0], Sample("000001", "another")]}, "line 2 has prompt"),
        ({"video_format": "mp4"}, "line 1 has file"),
    ],
)
def test_a_folder_of_other_settings_is_refused(pipe, whole, tmp_path, change, message):
    run(pipe, tmp_path)
    with pytest.raises(ValueError, match=f"begun with other settings: .*{message}.*new folder"):
        open_folder(tmp_path, **change)
    assert read(tmp_path) == whole


def test_a_folder_without_videos_takes_new_settings(pipe, whole, tmp_path):
    with pytest.raises(ValueError, match="num_frames"):
        sample_many(pipe, SAMPLES, open_folder(tmp_path, settings={}), {"num_frames": 4}, 2, ProcessShare())
    assert read(run(pipe, tmp_path)) == whole


def test_two_videos_of_one_name_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="2 entries, but only 1 names"):
        open_folder(tmp_path, [SAMPLES[0], SAMPLES[0]])
    capitals = [Sample("a circle-0", "a circle"), Sample("A circle-0", "A circle")]
    open_folder(tmp_path, capitals)
    monkeypatch.setattr(SampleFolder, "_ignores_case", lambda folder: True)
    with pytest.raises(ValueError, match="'A circle-0' and 'a circle-0' would be one file"):
        open_folder(tmp_path / "other", capitals)


# 4. Given frames


def test_videos_continue_real_clips(pipe, tmp_path):
    clips = np.random.default_rng(0).integers(0, 256, (5, 9, 32, 32, 3), dtype=np.uint8)  # (clips, F, H, W, 3)
    options = OPTIONS | {"num_frames": 9}

    def sample(path, read_clip, **kwargs):
        folder = open_folder(path, settings=options)
        sample_many(pipe, SAMPLES, folder, options, 2, ProcessShare(), read_clip, 5, **kwargs)
        return {sample.name: np.load(path / "videos" / f"{sample.name}.npy") for sample in SAMPLES}

    videos = sample(tmp_path / "a", lambda item: clips[item.facts["index"]], keep_real_clips=True)
    for item, clip in zip(SAMPLES, clips):
        assert videos[item.name].shape == clip.shape
        assert np.array_equal(np.load(tmp_path / "a" / "real" / f"{item.name}.npy"), clip)
    # Only the given frames matter.
    clips[:, 5:] = 0
    same = sample(tmp_path / "b", lambda item: clips[item.facts["index"]])
    assert all(np.array_equal(videos[name], same[name]) for name in videos)
    clips[:, 4] = 255 - clips[:, 4]
    others = sample(tmp_path / "c", lambda item: clips[item.facts["index"]])
    assert not any(np.array_equal(videos[name], others[name]) for name in videos)


# 5. Progress


def test_progress_is_in_videos_per_minute(monkeypatch):
    text = io.StringIO()
    with VideoProgress(10, 4, file=text, mininterval=0) as progress:
        progress.start_t -= 60  # a minute ago
        progress.show(7)
        assert progress.videos_per_minute == pytest.approx(3, rel=1e-2)
    assert "7/10 [01:00<01:00, 3.0 videos/min]" in text.getvalue()


def test_only_the_first_process_shows_progress_and_it_stays_to_the_end(pipe, tmp_path, monkeypatch, capsys):
    run(pipe, tmp_path, share=ProcessShare(1, 2))
    assert capsys.readouterr() == ("", "")
    naps = []

    def another_process_finishes(seconds):
        naps.append(seconds)
        missing = {f"{sample.name}.npy" for sample in SAMPLES} - {
            path.name for path in (tmp_path / "videos").iterdir()
        }
        Path(tmp_path / "videos" / min(missing)).touch()

    (tmp_path / "videos" / "000002.npy").unlink()
    monkeypatch.setattr(many_samples.time, "sleep", another_process_finishes)
    run(pipe, tmp_path, share=ProcessShare(0, 2))
    output = capsys.readouterr()
    assert naps and "5/5" in output.err and "5 videos in" in output.out
