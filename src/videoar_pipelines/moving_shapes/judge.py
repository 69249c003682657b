# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Judge of *moving shapes* videos: classical image analysis that recognises the five attributes of a clip.

No network is involved, so a verdict is cheap and repeatable, and nothing but the asked content makes it good. An
attribute has to hold over the frames: a shape that changes its color half-way has no color.

The steps: the background is the median color of each frame; the distance to it gives a soft mask; the interior of the
mask gives the color; its centroid on the torus, followed over time, gives the motion; its overlap with the rendered
templates of equal area gives the shape; its area, given the shape, the size.

All frames here are pixel frames. Axis letters: `F` pixel frames, `H` height, `W` width.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

from .data_set import (
    ATTRIBUTES,
    BACKGROUNDS,
    COLORS,
    MOTIONS,
    SHAPES,
    SIZES,
    MovingShapesClip,
    shape_coverage,
)


# Share of the frames in which an attribute must be recognised as the same value.
AGREEMENT = 0.85
# Largest distance to a color of the table, for RGB in [0, 1]; table colors are at least 0.39 apart.
COLOR_TOLERANCE = 0.3
# A pixel this far from the background, for RGB in [0, 1], certainly belongs to the shape.
FOREGROUND_DISTANCE = 0.2
# Shares of the frame that the shape may cover; the data set has 0.023 to 0.16.
AREA_RANGE = (0.01, 0.25)
# Share of the interior pixels that must be mixtures of background and shape color, and how exactly, in RGB in [0, 1].
INTERIOR_PURITY = 0.75
PIXEL_TOLERANCE = 0.2
# Smallest mean overlap (soft intersection over union) with the best template.
SHAPE_OVERLAP = 0.6
# Motion, in fractions of a side: slowest mean speed that counts as moving (the slowest clip has 0.016), largest
# root-mean-square distance from uniform motion, and smallest way back that counts as a bounce.
MOVING_SPEED = 0.008
TRACK_TOLERANCE = 0.03
BOUNCE_REVERSAL = 0.05
# Fewer frames than this show no motion that could be told from noise.
MINIMUM_MOTION_FRAMES = 5


def describe(video: torch.Tensor) -> dict[str, str | None] | None:
    """Recognise the attributes of a video or of a window of one.

    Args:
        video (`torch.Tensor`): `(F, 3, H, W)`, floating point, RGB in [0, 1]. A window of a longer video is a slice
            `video[first:last]`. The motion of fewer than 5 frames is `None`; fewer than 17 may not show that a bounce
            turns back.

    Returns:
        `dict[str, str | None]`: For each of `shape`, `color`, `size`, `background` and `motion` a name from its table
        or `None` if nothing was recognised that holds over the frames; the whole result is `None` if the video shows
        no single shape on a plain background.

    Raises:
        ValueError: If `video` is not such a tensor.
    """
    _check_video(video)
    video = video.detach().float().cpu()
    num_frames, _, height, width = video.shape

    # 1. Background: a shape never covers half of the frame.
    background_colors = video.flatten(2).median(dim=-1).values  # (F, 3)
    background = _held(_nearest_names(background_colors, BACKGROUNDS))

    # 2. Soft mask: 0 at the background's color, 1 at the shape's, from the median color of what clearly is foreground.
    difference = video - background_colors[:, :, None, None]
    foreground = _majority(difference.norm(dim=1) > FOREGROUND_DISTANCE)  # (F, H, W)
    areas = foreground.float().mean(dim=(1, 2))
    present = (areas > AREA_RANGE[0]) & (areas < AREA_RANGE[1])  # (F,)
    if background is None or present.float().mean() < AGREEMENT:
        return None
    frame_indices = present.nonzero()[:, 0]
    difference, foreground = difference[present], foreground[present]

    interior = _erode(foreground)
    contrast = _masked_median(difference, _core(difference.norm(dim=1), interior))  # (F, 3)
    coverage = torch.einsum("fchw,fc->fhw", difference, contrast) / contrast.square().sum(dim=1)[:, None, None]
    coverage = coverage.clamp(0, 1) * _dilate(foreground)  # (F, H, W)

    # 3. Color, pure within a frame and constant over frames.
    frame_colors = _nearest_names(background_colors[present] + contrast, COLORS)
    is_pure = _is_pure(difference, interior, coverage, contrast).tolist()
    color = _held([name if pure else None for name, pure in zip(frame_colors, is_pure)])

    # 4. Shape: the best template of the same centroid and area, then the size it has to have for that area.
    centers = _torus_centroids(coverage)  # (F, 2)
    pixel_areas = coverage.sum(dim=(1, 2))
    radii = {
        name: (pixel_areas / geometry.area).sqrt() / min(height, width) for name, geometry in SHAPES.items()
    }  # of (F,)
    overlaps = torch.stack(
        [_overlap(coverage, shape_coverage(name, centers, radii[name], height, width)) for name in SHAPES]
    )  # (5, F)
    shape_names = list(SHAPES)
    frame_shapes = [
        shape_names[best] if overlap > SHAPE_OVERLAP else None
        for overlap, best in zip(*(values.tolist() for values in overlaps.max(dim=0)))
    ]
    shape = _held(frame_shapes)
    size_boundary = math.sqrt(SIZES["small"] * SIZES["large"])
    assumed_shape = shape or shape_names[overlaps.mean(dim=1).argmax()]
    size = _held(["small" if radius < size_boundary else "large" for radius in radii[assumed_shape].tolist()])

    motion = _recognise_motion(centers, frame_indices) if num_frames >= MINIMUM_MOTION_FRAMES else None
    return {"shape": shape, "color": color, "size": size, "background": background, "motion": motion}


def judge(video: torch.Tensor, expected: MovingShapesClip | Mapping[str, str]) -> dict[str, bool]:
    """Whether a video shows what was asked for.

    Args:
        video (`torch.Tensor`): `(F, 3, H, W)`, floating point, RGB in [0, 1].
        expected (`MovingShapesClip` or `Mapping[str, str]`): A clip, for all of its attributes, or names for some
            attributes, for instance those that the caption mentions.

    Returns:
        `dict[str, bool]`: One verdict for each expected attribute; all `False` if there is nothing to see.

    Raises:
        ValueError: If `video` has a wrong layout, or `expected` has an unknown attribute or name.
    """
    expected = _check_expected(expected)
    recognised = describe(video) or {}
    return {attribute: recognised.get(attribute) == value for attribute, value in expected.items()}


def judge_windows(
    video: torch.Tensor, expected: MovingShapesClip | Mapping[str, str], window: int = 17, stride: int = 17
) -> list[dict[str, bool]]:
    """Verdicts over time of a long video: those of frames `0..window-1`, of `stride..stride+window-1` and so on.

    Args:
        video (`torch.Tensor`): `(F, 3, H, W)`, floating point, RGB in [0, 1].
        expected (`MovingShapesClip` or `Mapping[str, str]`): As for `judge`.
        window (`int`): Frames judged together.
        stride (`int`): Frames from one window to the next. Frames that fill no whole window are left out.

    Raises:
        ValueError: As `judge`; or if `window` is longer than the video, or `window` or `stride` is less than 1.
    """
    _check_video(video)
    if not 1 <= window <= video.shape[0]:
        raise ValueError(f"`window` is {window}: pass 1 to {video.shape[0]}, the number of frames of `video`.")
    if stride < 1:
        raise ValueError(f"`stride` is {stride}: pass at least 1.")
    first_frames = range(0, video.shape[0] - window + 1, stride)
    return [judge(video[first : first + window], expected) for first in first_frames]


def accuracy(verdicts: Sequence[Mapping[str, bool]]) -> dict[str, float]:
    """Shares of right verdicts.

    Args:
        verdicts (`Sequence[Mapping[str, bool]]`): Of `judge`, at least one; an attribute may be missing in some.

    Returns:
        `dict[str, float]`: For every attribute the share among the verdicts that have it, 0 if none has; as `all` the
        share of verdicts in which every attribute is right.
    """
    scores = {}
    for attribute in ATTRIBUTES:
        asked = [verdict[attribute] for verdict in verdicts if attribute in verdict]
        scores[attribute] = sum(asked) / max(1, len(asked))
    return scores | {"all": sum(all(verdict.values()) for verdict in verdicts) / len(verdicts)}


def _held(values: Sequence[str | None]) -> str | None:
    """The value that holds over the frames, or `None`."""
    value, count = Counter(values).most_common(1)[0]
    return value if count >= AGREEMENT * len(values) else None


def _nearest_names(colors: torch.Tensor, table: Mapping[str, tuple[int, int, int]]) -> list[str | None]:
    """Name of each color `(N, 3)` in [0, 1], or `None` where the table has nothing close."""
    names = list(table)
    distances, indices = torch.cdist(colors, torch.tensor(list(table.values())) / 255).min(dim=1)
    return [
        names[index] if distance < COLOR_TOLERANCE else None
        for distance, index in zip(distances.tolist(), indices.tolist())
    ]


def _is_pure(
    difference: torch.Tensor, interior: torch.Tensor, coverage: torch.Tensor, contrast: torch.Tensor
) -> torch.Tensor:
    """Whether the interior of each frame has one color: blurred or not, its pixels lie between background and shape."""
    distance = (difference - coverage[:, None] * contrast[:, :, None, None]).norm(dim=1)  # (F, H, W)
    is_pure = interior & (distance < PIXEL_TOLERANCE)
    return is_pure.sum(dim=(1, 2)) >= INTERIOR_PURITY * interior.sum(dim=(1, 2))  # (F,)


def _majority(mask: torch.Tensor) -> torch.Tensor:
    """Remove specks and fill pinholes: the majority of each 3x3 neighbourhood on the torus. `(F, H, W)` boolean."""
    padded = F.pad(mask[:, None].float(), (1, 1, 1, 1), mode="circular")
    return F.avg_pool2d(padded, 3, stride=1)[:, 0] > 0.5


def _dilate(mask: torch.Tensor) -> torch.Tensor:
    padded = F.pad(mask[:, None].float(), (2, 2, 2, 2), mode="circular")
    return F.max_pool2d(padded, 5, stride=1)[:, 0] > 0.5


def _erode(mask: torch.Tensor) -> torch.Tensor:
    """Take off one pixel all around; a frame of which nothing would remain stays as it is."""
    padded = F.pad(mask[:, None].float(), (1, 1, 1, 1), mode="circular")
    eroded = F.avg_pool2d(padded, 3, stride=1)[:, 0] > 0.999
    return torch.where(eroded.any(dim=(1, 2), keepdim=True), eroded, mask)


def _core(distance: torch.Tensor, interior: torch.Tensor) -> torch.Tensor:
    """The part of the interior that a blurred edge does not reach: nearly as far from the background as any of it."""
    distance = distance.masked_fill(~interior, float("nan"))
    return distance > 0.75 * distance.flatten(1).nanquantile(0.8, dim=1)[:, None, None]


def _masked_median(images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Median `(F, 3)` of the pixels of each frame of `(F, 3, H, W)` under a mask `(F, H, W)`."""
    return images.masked_fill(~mask[:, None], float("nan")).flatten(2).nanmedian(dim=-1).values


def _torus_centroids(coverage: torch.Tensor) -> torch.Tensor:
    """Centroids `(F, 2)` of `(F, H, W)` as fractions of width and height in [0, 1)."""
    weights = coverage / coverage.sum(dim=(1, 2), keepdim=True)
    centroids = []
    for profile in (weights.sum(dim=1), weights.sum(dim=2)):  # (F, W), then (F, H)
        places = (torch.arange(profile.shape[1]) + 0.5) / profile.shape[1]
        # The circular mean is close; the mean of the offsets from it, wrapped to half a frame either way, is exact.
        angles = 2 * math.pi * places
        circular_mean = torch.atan2(profile @ angles.sin(), profile @ angles.cos()) / (2 * math.pi)
        offsets = places - circular_mean[:, None]
        centroids.append(circular_mean + (profile * (offsets - offsets.round())).sum(dim=1))
    return torch.stack(centroids, dim=-1).remainder(1.0)


def _overlap(coverage: torch.Tensor, template: torch.Tensor) -> torch.Tensor:
    """Soft intersection over union of each frame."""
    intersection = torch.minimum(coverage, template).sum(dim=(1, 2))
    return intersection / torch.maximum(coverage, template).sum(dim=(1, 2))


def _recognise_motion(centers: torch.Tensor, frame_indices: torch.Tensor) -> str | None:
    """Name the motion of centroids `(F, 2)` on the torus, seen at the given frames."""
    steps = centers.diff(dim=0)
    steps = steps - steps.round()
    track = F.pad(steps.cumsum(dim=0), (0, 0, 1, 0))  # unwrapped, (F, 2)
    time = frame_indices.float() - frame_indices.float().mean()
    velocity = (time[:, None] * track).sum(dim=0) / time.square().sum()
    residual_x, residual_y = (
        (track - track.mean(dim=0) - time[:, None] * velocity).square().mean(dim=0).sqrt().tolist()
    )
    speed = velocity.norm().item()

    if residual_x < TRACK_TOLERANCE and abs(velocity[0].item()) < MOVING_SPEED and _reverses(track[:, 1]):
        return "bounce"
    if math.hypot(residual_x, residual_y) > TRACK_TOLERANCE:
        return None
    if speed < MOVING_SPEED:
        return "still"
    directions = {name: torch.tensor(direction) for name, direction in MOTIONS.items() if any(direction)}
    return max(directions, key=lambda name: (directions[name] @ velocity).item())


def _reverses(heights: torch.Tensor) -> bool:
    """Whether heights `(F,)` go one way and then back, each by more than noise."""
    down = (heights - heights.cummin(dim=0).values) > BOUNCE_REVERSAL
    up = (heights.cummax(dim=0).values - heights) > BOUNCE_REVERSAL
    return bool(down.any() and up.any())


def _check_video(video: torch.Tensor) -> None:
    if video.ndim != 4 or video.shape[1] != 3 or video.shape[0] == 0:
        raise ValueError(
            f"`video` has shape {tuple(video.shape)}: pass (frames, 3, height, width), at least one frame."
        )
    if not video.is_floating_point():
        raise ValueError(f"`video` has dtype {video.dtype}: pass floating point in [0, 1], for bytes divide by 255.")
    if video.min() < -0.01 or video.max() > 1.01:
        raise ValueError(
            f"`video` has values in [{video.min():.2f}, {video.max():.2f}]: pass RGB in [0, 1], for [-1, 1] use "
            "`(video + 1) / 2`."
        )


def _check_expected(expected: MovingShapesClip | Mapping[str, str]) -> Mapping[str, str]:
    if isinstance(expected, MovingShapesClip):
        return expected.attributes
    for attribute, value in expected.items():
        if attribute not in ATTRIBUTES:
            raise ValueError(f"`expected` has attribute {attribute!r}: pass one of {', '.join(ATTRIBUTES)}.")
        if value not in ATTRIBUTES[attribute]:
            raise ValueError(
                f"`expected[{attribute!r}]` is {value!r}: pass one of {', '.join(ATTRIBUTES[attribute])}."
            )
    return expected
