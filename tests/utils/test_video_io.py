# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import multiprocessing
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from av.video.frame import PictureType
from PIL import Image, ImageFile, ImageSequence

from tests.video_files import write_with_codec
from videoar_pipelines.utils import (
    VideoReader,
    VideoWriter,
    load_image,
    load_video,
    save_contact_sheet,
    save_gif,
    save_video,
    video_io,
)


# H.264 at crf 17 keeps one pixel of flat colour within 4 of 255 levels: quantisation, and 8-bit YUV.
FLAT_COLOUR_TOLERANCE = 4 / 255


def make_flat_video(num_frames=5, height=32, width=48):
    """Frames of one colour each, `(F, H, W, 3)` in [0, 1], which survive 4:2:0."""
    colours = np.random.default_rng(0).uniform(size=(num_frames, 1, 1, 3)).astype(np.float32)
    return colours.repeat(height, axis=1).repeat(width, axis=2)


def load_frames(path, **kwargs):
    """A video as `(F, H, W, 3)` in [0, 1], and its frames per second."""
    video, fps = load_video(path, **kwargs)
    return (video.permute(1, 2, 3, 0).numpy() + 1) / 2, fps


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_video_survives_writing_and_reading(tmp_path, suffix):
    frames = make_flat_video()
    save_video(frames, tmp_path / f"video{suffix}", fps=8)
    video, fps = load_video(tmp_path / f"video{suffix}")
    assert video.shape == (3, 5, 32, 48) and video.dtype == torch.float32 and fps == 8
    assert video.min() >= -1 and video.max() <= 1
    np.testing.assert_allclose((video.permute(1, 2, 3, 0) + 1) / 2, frames, atol=FLAT_COLOUR_TOLERANCE)


def test_a_fork_reads_and_writes_videos_after_its_parent(tmp_path):
    """As a worker of a data loader does. A fork has none of the threads of its parent, and must not wait for them."""

    def read_and_write():
        load_video(tmp_path / "parent.mp4", height=16, width=16)
        save_video(make_flat_video(height=128, width=128), tmp_path / "child.mp4", fps=8)
        with VideoReader(tmp_path / "parent.mp4", num_threads=1) as reader:
            reader.read(height=16, width=16)

    save_video(make_flat_video(height=128, width=128), tmp_path / "parent.mp4", fps=8)
    load_video(tmp_path / "parent.mp4", height=64, width=64)
    child = multiprocessing.get_context("fork").Process(target=read_and_write)
    child.start()
    child.join(timeout=60)
    exit_status = child.exitcode
    child.kill()
    assert exit_status == 0, "it hangs" if exit_status is None else "it failed"


@pytest.mark.parametrize("kind", ["tensor", "bfloat16", "uint8", "float64", "images"])
def test_every_kind_of_frames_gives_the_same_file(tmp_path, kind):
    levels = (make_flat_video() * 255).round().astype(np.uint8)
    same_frames = {
        "tensor": torch.from_numpy(levels) / 255,
        "bfloat16": (torch.from_numpy(levels // 255 * 255) / 255).bfloat16(),
        "uint8": torch.from_numpy(levels),
        "float64": levels / 255,
        "images": [Image.fromarray(image) for image in levels],
    }[kind]
    # bfloat16 holds only some of the 256 levels; black and white are among them.
    save_video(levels // 255 * 255 if kind == "bfloat16" else levels, tmp_path / "expected.mp4")
    save_video(same_frames, tmp_path / "video.mp4")
    assert (tmp_path / "video.mp4").read_bytes() == (tmp_path / "expected.mp4").read_bytes()


def test_levels_are_rounded_and_not_truncated(tmp_path):
    frames = np.full((1, 16, 16, 3), 254.6 / 255, dtype=np.float32)
    save_contact_sheet([frames], tmp_path / "sheet.png")
    assert Image.open(tmp_path / "sheet.png").getpixel((20, 20)) == (255, 255, 255)


def test_odd_sizes_are_padded_by_the_edge_and_not_resized(tmp_path):
    frames = make_flat_video(height=33, width=47)
    frames[:, 16:] = 1 - frames[:, 16:]
    save_video(frames, tmp_path / "video.mp4")
    written, _ = load_frames(tmp_path / "video.mp4")
    assert written.shape == (5, 34, 48, 3)
    # Not the rows beside the edge, which share their chroma; x264 rings a little further than that.
    for rows in (slice(0, 14), slice(18, 33)):
        np.testing.assert_allclose(written[:, rows, :47], frames[:, rows], atol=2 * FLAT_COLOUR_TOLERANCE)
    np.testing.assert_allclose(written[:, -1], written[:, -2], atol=FLAT_COLOUR_TOLERANCE)


@pytest.mark.parametrize(
    "fps, expected",
    [
        (8, Fraction(8)),
        (12.5, Fraction(25, 2)),
        (30000 / 1001, Fraction(30000, 1001)),
        (Fraction(1, 3), Fraction(1, 3)),
    ],
)
def test_fractions_of_the_frame_rate_are_kept(tmp_path, fps, expected):
    save_video(make_flat_video(), tmp_path / "video.mp4", fps=fps)
    with av.open(str(tmp_path / "video.mp4")) as container:
        assert container.streams.video[0].average_rate == expected


def test_the_colour_matrix_is_written_down(tmp_path):
    save_video(make_flat_video(), tmp_path / "video.mp4")
    with av.open(str(tmp_path / "video.mp4")) as container:
        frame = next(container.decode(video=0))
    assert frame.colorspace == av.video.reformatter.Colorspace.ITU709
    assert frame.color_range == av.video.reformatter.ColorRange.MPEG


def test_writing_in_chunks_equals_writing_at_once(tmp_path):
    frames = make_flat_video(num_frames=9)
    save_video(frames, tmp_path / "at_once.mp4", fps=8)
    with VideoWriter(tmp_path / "in_chunks.mp4", fps=8) as writer:
        for start, end in [(0, 1), (1, 5), (5, 9)]:
            writer.write(frames[start:end])
    assert (tmp_path / "in_chunks.mp4").read_bytes() == (tmp_path / "at_once.mp4").read_bytes()


def test_an_interrupted_video_leaves_no_file_and_keeps_the_old_one(tmp_path):
    save_video(make_flat_video(), tmp_path / "video.mp4")
    before = (tmp_path / "video.mp4").read_bytes()
    for num_written in (0, 3):
        with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "video.mp4", fps=8) as writer:
            if num_written > 0:
                writer.write(make_flat_video(num_written))
            raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]
    assert (tmp_path / "video.mp4").read_bytes() == before


def test_a_missing_folder_is_created(tmp_path):
    save_video(make_flat_video(), tmp_path / "new" / "folder" / "video.mp4")
    assert (tmp_path / "new" / "folder" / "video.mp4").is_file()


@pytest.mark.parametrize(
    "frames, message",
    [
        (make_flat_video() * 2 - 1, r"`frames` as floats must be in \[0, 1\], but spans \[-0.*`\(frames \+ 1\) / 2`"),
        (make_flat_video() * 255, r"must be in \[0, 1\]"),
        (make_flat_video() * np.nan, r"must be in \[0, 1\], but spans \[nan, nan\]"),
        (make_flat_video()[0], r"must have the shape \(frames, height, width, 3\), but has \(32, 48, 3\)"),
        (make_flat_video().transpose(3, 0, 1, 2), r"`video.permute\(1, 2, 3, 0\)`"),
        (make_flat_video()[:0], r"but has \(0, 32, 48, 3\)"),
        ([], r"must have the shape"),
        (make_flat_video().astype(np.int64), r"must be uint8 or floating point, but is int64"),
        ([Image.new("RGB", (8, 8)), Image.new("RGB", (8, 6))], r"must all have one size"),
    ],
)
def test_frames_of_the_wrong_form_are_refused(tmp_path, frames, message):
    with pytest.raises(ValueError, match=message):
        save_video(frames, tmp_path / "video.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_an_impossible_frame_rate_is_refused(tmp_path, fps):
    with pytest.raises(ValueError, match="`fps` must be a positive number"):
        save_video(make_flat_video(), tmp_path / "video.mp4", fps=fps)


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`path` must end in one of .mp4, .mov, .mkv, but is '.*video.avi'"):
        save_video(make_flat_video(), tmp_path / "video.avi")


def test_chunks_of_another_size_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must keep the size of the first ones, \(32, 48\), but has \(32, 32\)"):
        with VideoWriter(tmp_path / "video.mp4", fps=8) as writer:
            writer.write(make_flat_video())
            writer.write(make_flat_video(width=32))


def test_a_writer_that_was_never_used_says_so(tmp_path):
    with pytest.raises(ValueError, match="No frames were written"):
        with VideoWriter(tmp_path / "video.mp4", fps=8):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_gif_keeps_its_length_where_delays_cannot_be_exact(tmp_path):
    save_gif(make_flat_video(num_frames=24), tmp_path / "video.gif", fps=12)
    milliseconds = []
    with Image.open(tmp_path / "video.gif") as gif:
        assert gif.info["loop"] == 0
        for index in range(gif.n_frames):
            gif.seek(index)
            milliseconds.append(gif.info["duration"])
    assert set(milliseconds) == {80, 90} and sum(milliseconds) == 2000


def test_a_gif_is_nearer_to_its_frames_than_with_the_palette_of_pillow(tmp_path):
    # A disc with soft edges that moves over a gradient: more colours than a palette holds.
    y, x = np.mgrid[:64, :64] / 63
    background = np.stack([x, y, 1 - x], axis=-1)
    discs = [np.clip(10 * (0.2 - np.hypot(x - place, y - 0.5)), 0, 1)[..., None] for place in (0.3, 0.5, 0.7)]
    frames = np.stack([(1 - disc) * background + disc * np.array([1, 0.2, 0.1]) for disc in discs])
    save_gif(frames, tmp_path / "video.gif", title="a red disc")
    images = [Image.fromarray(image) for image in video_io.frames_to_uint8(frames)]
    images[0].save(tmp_path / "pillow.gif", save_all=True, append_images=images[1:])

    def error_of(name):
        with Image.open(tmp_path / name) as gif:
            written = np.stack([np.asarray(image.convert("RGB")) for image in ImageSequence.Iterator(gif)])
        return np.square(written / 255 - frames).mean() ** 0.5

    # Measured: 0.0175 and 0.0206.
    assert error_of("video.gif") < 0.92 * error_of("pillow.gif")
    assert Image.open(tmp_path / "video.gif").info["comment"] == b"a red disc"


@pytest.mark.parametrize("num_frames", [1, 5, 17])
@pytest.mark.parametrize("suffix, fps", [(".mp4", 8), (".mp4", 12.5), (".mov", Fraction(30000, 1001)), (".mkv", 8)])
def test_a_video_lasts_as_long_as_its_frames_and_has_its_title(tmp_path, suffix, fps, num_frames):
    save_video(make_flat_video(num_frames), tmp_path / f"video{suffix}", fps=fps, title="a café, in the rain")
    with av.open(str(tmp_path / f"video{suffix}")) as container:
        assert container.metadata["title"] == "a café, in the rain"
        assert container.streams.video[0].average_rate == fps
        # Matroska counts milliseconds.
        assert container.duration / av.time_base == pytest.approx(num_frames / fps, abs=2e-3)


def top_level_atoms(path):
    """The names of the boxes of an MP4 file, in order."""
    content, start, names = path.read_bytes(), 0, []
    while start < len(content):
        names.append(content[start + 4 : start + 8].decode())
        size = int.from_bytes(content[start : start + 4])
        start += int.from_bytes(content[start + 8 : start + 16]) if size == 1 else size
    return names


@pytest.mark.parametrize("reproducible", [False, True])
def test_a_browser_can_play_an_mp4_while_it_loads(tmp_path, reproducible):
    with VideoWriter(tmp_path / "video.mp4", fps=8, reproducible=reproducible) as writer:
        writer.write(make_flat_video(num_frames=33))
    atoms = top_level_atoms(tmp_path / "video.mp4")
    assert atoms[0] == "ftyp" and atoms.index("moov") < atoms.index("mdat")
    with av.open(str(tmp_path / "video.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.codec_context.profile in ("High", "Main", "Constrained Baseline")


def test_a_gif_that_viewers_would_slow_down_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`fps` of a GIF must be at most 50, but is 60"):
        save_gif(make_flat_video(), tmp_path / "video.gif", fps=60)


def test_a_contact_sheet_shows_the_first_and_the_last_frame(tmp_path):
    frames = make_flat_video(num_frames=17, height=128, width=128)
    save_contact_sheet([frames], tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (128 + 12, 9 * 128 + 8 * 6 + 12, 3)
    for column, index in enumerate(range(0, 17, 2)):
        expected = np.rint(frames[index, 0, 0] * 255)
        np.testing.assert_array_equal(sheet[70, 6 + column * 134 + 64], expected)


def test_a_contact_sheet_has_room_for_captions_lines_and_videos_of_other_sizes(tmp_path):
    videos = [make_flat_video(17, 128, 128), make_flat_video(5, 64, 48)]
    save_contact_sheet(videos, tmp_path / "plain.png", columns=4, max_frames=8)
    save_contact_sheet(videos, tmp_path / "sheet.png", captions=["one", "many words " * 40], columns=4, max_frames=8)
    plain, sheet = Image.open(tmp_path / "plain.png"), Image.open(tmp_path / "sheet.png")
    # Two lines of four; then five frames in two lines, enlarged twice to a readable height.
    assert plain.size == (4 * 134 + 6, (2 * 134 + 6) + (2 * 134 + 6))
    assert sheet.width == plain.width and sheet.height > plain.height + 3 * 20
    assert np.asarray(sheet)[6:26].min() < 100, "the caption is drawn above the first row"


@pytest.mark.parametrize(
    "videos, kwargs, message",
    [
        ([], {}, "`videos` must hold at least one video"),
        ([make_flat_video()], {"captions": ["a", "b"]}, "`captions` must hold one text per video, 1, but holds 2"),
        ([make_flat_video()], {"columns": 0}, "must be at least 1, but are 0 and 9"),
    ],
)
def test_a_contact_sheet_that_makes_no_sense_is_refused(tmp_path, videos, kwargs, message):
    with pytest.raises(ValueError, match=message):
        save_contact_sheet(videos, tmp_path / "sheet.png", **kwargs)


def test_only_the_frames_asked_for_are_read(tmp_path):
    frames = make_flat_video(num_frames=9)
    save_video(frames, tmp_path / "video.mp4")
    written, _ = load_frames(tmp_path / "video.mp4", num_frames=5)
    np.testing.assert_allclose(written, frames[:5], atol=FLAT_COLOUR_TOLERANCE)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_another_frame_rate_takes_the_nearest_frames(tmp_path, suffix):
    frames = make_flat_video(num_frames=25)
    save_video(frames, tmp_path / f"video{suffix}", fps=24)
    same, _ = load_frames(tmp_path / f"video{suffix}", fps=24)
    slower, fps = load_frames(tmp_path / f"video{suffix}", fps=8)
    faster, _ = load_frames(tmp_path / f"video{suffix}", fps=48, num_frames=9)
    np.testing.assert_allclose(same, frames, atol=FLAT_COLOUR_TOLERANCE)
    assert fps == 8
    np.testing.assert_allclose(slower, frames[::3], atol=FLAT_COLOUR_TOLERANCE)
    np.testing.assert_allclose(faster[::2], frames[:5], atol=FLAT_COLOUR_TOLERANCE)


def test_another_shape_is_covered_and_cropped_in_the_centre(tmp_path):
    frames = np.zeros((2, 64, 128, 3), dtype=np.float32)
    frames[:, :, 32:96] = 1  # the centre square is white
    save_video(frames, tmp_path / "video.mp4")
    written, _ = load_frames(tmp_path / "video.mp4", height=32, width=32)
    assert written.shape == (2, 32, 32, 3)
    np.testing.assert_allclose(written[:, :, 4:-4], 1, atol=FLAT_COLOUR_TOLERANCE)
    enlarged, _ = load_frames(tmp_path / "video.mp4", height=128, width=100)
    assert enlarged.shape == (2, 128, 100, 3)


def test_a_video_that_is_too_short_is_refused(tmp_path):
    save_video(make_flat_video(num_frames=5), tmp_path / "video.mp4", fps=8)
    with pytest.raises(ValueError, match=r"video.mp4' has 5 frames, but 9 are needed. Lower `num_frames`"):
        load_video(tmp_path / "video.mp4", num_frames=9)
    with pytest.raises(ValueError, match=r"has 3 frames at 4 frames per second, but 5 are needed"):
        load_video(tmp_path / "video.mp4", num_frames=5, fps=4)


def test_files_that_are_no_videos_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing.mp4"):
        load_video(tmp_path / "missing.mp4")
    (tmp_path / "text.mp4").write_text("this is no video")
    with pytest.raises(ValueError, match="text.mp4' cannot be decoded as a video"):
        load_video(tmp_path / "text.mp4")
    save_video(make_flat_video(num_frames=9), tmp_path / "video.mp4")
    (tmp_path / "half.mp4").write_bytes((tmp_path / "video.mp4").read_bytes()[:500])
    with pytest.raises(ValueError, match="half.mp4' cannot be decoded as a video"):
        load_video(tmp_path / "half.mp4")


def test_a_file_with_sound_only_is_refused(tmp_path):
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
    with pytest.raises(ValueError, match="sound.wav' has no video stream"):
        load_video(tmp_path / "sound.wav")


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"height": 32}, "`height` and `width` must be given together, but are 32 and None"),
        ({"num_frames": 0}, "`num_frames` must be positive, but is 0"),
        ({"fps": -1}, "`fps` must be positive, but is -1"),
    ],
)
def test_reading_with_arguments_that_make_no_sense_is_refused(tmp_path, kwargs, message):
    with pytest.raises(ValueError, match=message):
        load_video(tmp_path / "video.mp4", **kwargs)


def rotate_by_header(path, matrix):
    """Writes a display matrix (a, b, c, d in 16.16 fixed point) into an MP4 file, as phones do."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44  # name, version, times, id, duration, layer, volume
    a, b, c, d = (int(value * 65536).to_bytes(4, "big", signed=True) for value in matrix)
    content[start : start + 20] = a + b + bytes(4) + c + d
    path.write_bytes(content)


# MPEG-4 in AVI is what UCF-101 comes as. With B-frames its first frame is not at time zero, and the index of MPEG-PS and MPEG-TS
# files leads nowhere near.
@pytest.mark.parametrize(
    "name, codec, options",
    [
        ("video.mp4", "libx264", {"g": "8"}),
        ("video.mkv", "libx264", {"g": "8"}),
        ("video.avi", "mpeg4", {"g": "8", "bf": "2"}),
        ("video.ts", "libx264", {"g": "250"}),
        ("video.mpg", "mpeg2video", {"bf": "2"}),
        ("video.h264", "libx264", {"g": "8"}),
    ],
)
def test_a_clip_from_the_middle_is_a_part_of_the_whole(tmp_path, name, codec, options):
    write_with_codec(tmp_path / name, codec, make_flat_video(num_frames=25), fps=25, **options)
    with VideoReader(tmp_path / name) as reader:
        whole = reader.read()
        # MPEG-PS knows no number of frames, and its duration leaves out the delay of B-frames.
        assert len(whole) == 25 and reader.num_frames == (23 if name == "video.mpg" else 25)
        assert len(np.unique(whole[:, 0, 0], axis=0)) == 25, "the frames can be told apart"
        for start_frame in (1, 7, 8, 13, 20):
            np.testing.assert_array_equal(
                reader.read(5, start_frame=start_frame), whole[start_frame : start_frame + 5]
            )


def test_a_stride_takes_every_so_many_th_frame(tmp_path):
    save_video(make_flat_video(num_frames=20), tmp_path / "video.mp4")
    with VideoReader(tmp_path / "video.mp4") as reader:
        whole = reader.read()
        np.testing.assert_array_equal(reader.read(5, frame_stride=3, start_frame=2), whole[2:15:3])
        with pytest.raises(ValueError, match="has 6 frames with `frame_stride` 3 after frame 3, but 7 are needed"):
            reader.read(7, frame_stride=3, start_frame=3)


def test_a_rate_and_a_start_are_combined(tmp_path):
    save_video(make_flat_video(num_frames=25), tmp_path / "video.mp4", fps=24)
    with VideoReader(tmp_path / "video.mp4") as reader:
        np.testing.assert_array_equal(reader.read(4, fps=8, start_frame=5), reader.read()[5:17:3])


@pytest.mark.parametrize("quarter_turns, matrix", [(1, (0, -1, 1, 0)), (2, (-1, 0, 0, -1)), (3, (0, 1, -1, 0))])
def test_a_video_is_turned_as_its_header_says(tmp_path, quarter_turns, matrix):
    frames = np.zeros((3, 32, 64, 3), dtype=np.float32)
    frames[:, :16, :32] = 1
    save_video(frames, tmp_path / "video.mp4")
    upright, _ = load_frames(tmp_path / "video.mp4")
    rotate_by_header(tmp_path / "video.mp4", matrix)
    with VideoReader(tmp_path / "video.mp4") as reader:
        assert reader.displayed_size() == ((64, 32) if quarter_turns % 2 else (32, 64))
        turned = reader.read() / np.float32(255)
        np.testing.assert_allclose(turned, np.rot90(upright, quarter_turns, axes=(1, 2)), atol=1e-6)
        resized = reader.read(height=turned.shape[1] * 2, width=turned.shape[2] * 2) / np.float32(255)
    np.testing.assert_allclose(resized[:, 8::16, 8::16], turned[:, 4::8, 4::8], atol=FLAT_COLOUR_TOLERANCE)


def test_pixels_that_are_not_square_are_made_square(tmp_path):
    with av.open(str(tmp_path / "video.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        image = np.zeros((32, 32, 3), dtype=np.uint8)
        image[:, 8:24] = 255  # on the screen, the middle 32 of 64 columns
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    with VideoReader(tmp_path / "video.mkv") as reader:
        assert reader.displayed_size() == (32, 64)
        assert reader.read(height=32, width=32)[:, :, 2:-2].min() > 240


def test_damaged_frames_are_an_error(tmp_path):
    noise = np.random.default_rng(0).uniform(size=(12, 64, 64, 3)).astype(np.float32)
    write_with_codec(tmp_path / "video.mp4", "libx264", noise, movflags="faststart")
    content = bytearray((tmp_path / "video.mp4").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4000] = bytes(4000)
    (tmp_path / "damaged.mp4").write_bytes(content)
    with pytest.raises(ValueError, match="damaged.mp4' (has damaged frames|cannot be decoded|has [0-9]* frames)"):
        load_video(tmp_path / "damaged.mp4", num_frames=12)


def test_a_video_is_read_from_an_open_file_as_from_its_path(tmp_path):
    save_video(make_flat_video(num_frames=9), tmp_path / "video.mp4")
    with open(tmp_path / "video.mp4", "rb") as file, VideoReader(file) as from_file:
        with VideoReader(tmp_path / "video.mp4") as from_path:
            for start_frame in (4, 0):
                np.testing.assert_array_equal(
                    from_file.read(5, start_frame=start_frame), from_path.read(5, start_frame=start_frame)
                )


def test_an_image_is_upright_covered_and_cropped(tmp_path):
    levels = np.zeros((40, 80, 3), dtype=np.uint8)
    levels[:, 20:60] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(levels).save(tmp_path / "image.png", exif=exif)
    image = load_image(tmp_path / "image.png", height=40, width=40)
    assert image.shape == (40, 40, 3) and image.dtype == np.uint8 and image.min() > 250
    assert load_image(tmp_path / "image.png", height=80, width=20)[:, 0].mean(axis=1).tolist() != [255.0] * 80


@pytest.mark.parametrize("size", [(1_000_000, 1), (1, 1_000_000), (12_000, 12_000)])
def test_a_small_file_of_a_huge_picture_is_refused(tmp_path, size, monkeypatch):
    Image.new("1", size).save(tmp_path / "huge.png")
    if size == (12_000, 12_000):  # Pillow only warns of it
        monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("the picture was decoded"))
    monkeypatch.setattr(Image.Image, "resize", lambda *_: pytest.fail("the picture was resized"))
    with warnings.catch_warnings(action="ignore"):
        with pytest.raises(ValueError, match=r"huge.png'.* takes a picture of \d+x\d+ pixels, more than"):
            load_image(tmp_path / "huge.png", height=128, width=128)


def test_a_video_of_huge_frames_is_refused(tmp_path, monkeypatch):
    save_video(make_flat_video(2, 32, 32), tmp_path / "video.mp4")
    monkeypatch.setattr(video_io, "MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match="video.mp4' takes a picture of 32x32 pixels, more than 1000"):
        load_video(tmp_path / "video.mp4")


@pytest.mark.parametrize("fps", [float("inf"), float("nan")])
def test_a_rate_that_is_none_is_refused_when_reading(tmp_path, fps):
    save_video(make_flat_video(2, 32, 32), tmp_path / "video.mp4")
    with pytest.raises(ValueError, match="`fps` must be positive"):
        load_video(tmp_path / "video.mp4", fps=fps)
    with VideoReader(tmp_path / "video.mp4") as reader, pytest.raises(ValueError, match="`fps` must be a positive"):
        reader.read(fps=fps)


def test_a_header_without_a_known_codec_is_an_error_that_names_the_file(tmp_path):
    save_video(make_flat_video(2, 32, 32), tmp_path / "video.mp4")
    content = (tmp_path / "video.mp4").read_bytes()
    (tmp_path / "damaged.mp4").write_bytes(content.replace(b"avc1", b"zzzz"))
    with pytest.raises(ValueError, match="damaged.mp4'"):
        load_video(tmp_path / "damaged.mp4")


def test_frames_of_sixteen_bits_are_refused_and_not_written_as_white(tmp_path):
    images = [Image.fromarray(np.full((8, 8), 300, dtype=np.uint16))]
    with pytest.raises(ValueError, match="`frames` has the mode 'I;16'"):
        save_video(images, tmp_path / "video.mp4")


def test_an_image_of_sixteen_bits_is_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 40000, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="deep.png' has the mode 'I;16': save it with 8 bits"):
        load_image(tmp_path / "deep.png", height=8, width=8)


def test_a_reproducible_video_has_no_frames_that_depend_on_later_ones(tmp_path):
    still = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    frames = np.stack([np.roll(still, shift, axis=1) for shift in range(9)])
    kinds = {}
    for reproducible in (False, True):
        with VideoWriter(tmp_path / "video.mp4", fps=8, reproducible=reproducible) as writer:
            writer.write(frames)
        with av.open(str(tmp_path / "video.mp4")) as container:
            kinds[reproducible] = {PictureType(frame.pict_type).name for frame in container.decode(video=0)}
    assert kinds == {False: {"I", "P", "B"}, True: {"I", "P"}}
