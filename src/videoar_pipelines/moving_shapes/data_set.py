# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""*Moving shapes*: a procedural text-video data set that needs no download.

One flat-coloured shape moves over a flat background. The world is a torus: what leaves on one side re-enters on the
other, so "moves to the right" holds for a video of any length. Everything about a clip is a pure function of
`(seed, index)`, so a training run can be resumed at any batch and every judgement can be repeated.

Conventions: places are fractions of the frame's width (`x`) and height (`y`, downwards), radii are fractions of the
shorter side, speeds are fractions of a side per pixel frame. All frames here are pixel frames. Axis letters: `B` clips,
`F` pixel frames, `H` height, `W` width.

Held-out rule: a combination with `(shape_index + 2 * color_index + 3 * motion_index) % 10 == 0` is never trained on
(indices count the rows of the tables below). Every pair of shape and color has exactly one such motion.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch


def _circle(x: torch.Tensor, y: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    return torch.sqrt(x * x + y * y) - radius


def _box(x: torch.Tensor, y: torch.Tensor, half_width: torch.Tensor, half_height: torch.Tensor) -> torch.Tensor:
    return torch.maximum(x.abs() - half_width, y.abs() - half_height)


def _square(x: torch.Tensor, y: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    return _box(x, y, 0.88 * radius, 0.88 * radius)


def _triangle(x: torch.Tensor, y: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    # Equilateral, one corner up, centred on its centroid; the circumradius is twice the distance of each edge.
    edge_distance = 0.5 * 1.15 * radius
    return torch.maximum(y, math.sqrt(0.75) * x.abs() - 0.5 * y) - edge_distance


def _star(x: torch.Tensor, y: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    # Five points, one up: two reflections fold the plane onto the wedge of one half point, whose only edge is measured.
    outer_radius, inner_ratio = 1.15 * radius, 0.45
    cosine, sine = math.cos(math.pi / 5), math.sin(math.pi / 5)
    x, y = x.abs(), -y
    overshoot = 2 * (cosine * x - sine * y).clamp(min=0)
    x, y = x - overshoot * cosine, y + overshoot * sine
    overshoot = 2 * (-cosine * x - sine * y).clamp(min=0)
    x, y = (x + overshoot * cosine).abs(), y + overshoot * sine - outer_radius
    edge_x, edge_y = inner_ratio * sine, inner_ratio * cosine - 1
    along = (x * edge_x + y * edge_y) / (edge_x**2 + edge_y**2)
    along = torch.minimum(along.clamp(min=0), outer_radius)
    distance = torch.sqrt((x - edge_x * along) ** 2 + (y - edge_y * along) ** 2)
    return torch.where(y * edge_x > x * edge_y, distance, -distance)


def _cross(x: torch.Tensor, y: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    return torch.minimum(_box(x, y, radius, 0.36 * radius), _box(x, y, 0.36 * radius, radius))


# 1. Attribute tables


@dataclass(frozen=True)
class ShapeGeometry:
    """Geometry of one shape of radius 1, whose centroid is the origin.

    Args:
        signed_distance: Function of `(x, y, radius)`, in one unit of length, `y` downwards; negative inside.
        extent: Largest distance of the shape from its centroid along an axis.
        area: Area of the shape.
    """

    signed_distance: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    extent: float
    area: float


SHAPES = {
    "circle": ShapeGeometry(_circle, extent=1.0, area=math.pi),
    "square": ShapeGeometry(_square, extent=0.88, area=4 * 0.88**2),
    "triangle": ShapeGeometry(_triangle, extent=1.15, area=math.sqrt(27) / 4 * 1.15**2),
    "star": ShapeGeometry(_star, extent=1.15, area=5 * math.sin(math.pi / 5) * 0.45 * 1.15**2),
    "cross": ShapeGeometry(_cross, extent=1.0, area=8 * 0.36 - 4 * 0.36**2),
}

# RGB in [0, 255]; every color is at least 100 (Euclidean) from every other color and from every background.
COLORS = {
    "red": (225, 25, 30),
    "green": (30, 160, 60),
    "blue": (20, 60, 230),
    "yellow": (250, 225, 30),
    "orange": (250, 125, 0),
    "purple": (120, 20, 170),
    "pink": (255, 100, 180),
    "cyan": (40, 200, 225),
}
BACKGROUNDS = {"white": (245, 245, 245), "black": (12, 12, 12), "gray": (128, 128, 128), "beige": (225, 205, 165)}

# Radius as a fraction of the shorter side, before a jitter of +- 6 %.
SIZES = {"small": 0.125, "large": 0.21}

# Unit direction (x, y), y downwards.
_DIAGONAL = math.sqrt(0.5)
MOTIONS = {
    "left": (-1.0, 0.0),
    "right": (1.0, 0.0),
    "up": (0.0, -1.0),
    "down": (0.0, 1.0),
    "up-left": (-_DIAGONAL, -_DIAGONAL),
    "up-right": (_DIAGONAL, -_DIAGONAL),
    "down-left": (-_DIAGONAL, _DIAGONAL),
    "down-right": (_DIAGONAL, _DIAGONAL),
    "bounce": (0.0, 0.0),
    "still": (0.0, 0.0),
}

ATTRIBUTES = {"shape": SHAPES, "color": COLORS, "size": SIZES, "background": BACKGROUNDS, "motion": MOTIONS}
SPLITS = ("train", "held_out", "all")

RADIUS_JITTER = 0.06
COLOR_JITTER = 6 / 255
SPEED_RANGE = (0.016, 0.03)
BOUNCE_HEIGHT_RANGE = (0.15, 0.25)
# No longer than 16 frame intervals: any 17 frames hold a whole arc and so a reversal.
BOUNCE_PERIOD_RANGE = (10.0, 16.0)
# This share of the clips keeps clear of the border for so many frames; the others start anywhere.
BORDER_FREE_SHARE = 0.7
BORDER_FREE_FRAMES = 17


# 2. Clips


@dataclass(frozen=True)
class MovingShapesClip:
    """Everything that determines the pixels of one clip.

    Args:
        shape, color, size, background, motion (`str`): Names from the tables `SHAPES`, `COLORS`, `SIZES`,
            `BACKGROUNDS` and `MOTIONS`.
        start_x, start_y (`float`): Centroid of the shape at frame 0, in [0, 1); for `motion="bounce"`, `start_y` is
            the lowest point of the centroid.
        speed (`float`): Distance per pixel frame of the eight straight motions, as a fraction of a side.
        radius (`float`): Fraction of the shorter side.
        color_offset (`tuple[float, float, float]`): Added to the RGB of the color, in units of [0, 1].
        bounce_height (`float`): Height of a bounce as a fraction of the frame's height.
        bounce_period (`float`): Pixel frames from one touch of the floor to the next.
        bounce_phase (`float`): Part of an arc already flown at frame 0, in [0, 1).

    Raises:
        ValueError: If an attribute is not a name of its table.
    """

    shape: str
    color: str
    size: str
    background: str
    motion: str
    start_x: float
    start_y: float
    speed: float
    radius: float
    color_offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    bounce_height: float = 0.2
    bounce_period: float = 12.0
    bounce_phase: float = 0.0

    def __post_init__(self):
        for attribute, table in ATTRIBUTES.items():
            _check_choice(attribute, getattr(self, attribute), table)

    @property
    def attributes(self) -> dict[str, str]:
        """The five attributes by name, in the order of `ATTRIBUTES`."""
        return {attribute: getattr(self, attribute) for attribute in ATTRIBUTES}


def is_held_out(shape: str, color: str, motion: str) -> bool:
    """Whether a combination is kept out of training (the rule is stated at the top of this file).

    Raises:
        ValueError: If a name is not in its table.
    """
    indices = []
    for attribute, value in (("shape", shape), ("color", color), ("motion", motion)):
        _check_choice(attribute, value, ATTRIBUTES[attribute])
        indices.append(list(ATTRIBUTES[attribute]).index(value))
    shape_index, color_index, motion_index = indices
    return (shape_index + 2 * color_index + 3 * motion_index) % 10 == 0


def draw_clip(index: int, seed: int = 0, split: str = "train") -> MovingShapesClip:
    """Draw clip number `index` of the data set `seed`; a pure function of its arguments.

    Args:
        index (`int`): Number of the clip in the (endless) data set.
        seed (`int`): Names the data set.
        split (`str`): `"train"` never gives a held-out combination, `"held_out"` gives nothing else, `"all"` gives
            both.

    Raises:
        ValueError: If `split` is unknown.
    """
    _check_choice("split", split, SPLITS)
    rng = random.Random(f"moving-shapes-{seed}-{index}")
    while True:
        chosen = {attribute: rng.choice(list(table)) for attribute, table in ATTRIBUTES.items()}
        held_out = is_held_out(chosen["shape"], chosen["color"], chosen["motion"])
        if split == "all" or held_out == (split == "held_out"):
            break

    radius = SIZES[chosen["size"]] * rng.uniform(1 - RADIUS_JITTER, 1 + RADIUS_JITTER)
    speed = rng.uniform(*SPEED_RANGE)
    bounce_height = rng.uniform(*BOUNCE_HEIGHT_RANGE)

    # The part of the frame in which the centroid may start: all of it, or what keeps the whole path off the border.
    lowest_x, highest_x, lowest_y, highest_y = 0.0, 1.0, 0.0, 1.0
    if rng.random() < BORDER_FREE_SHARE:
        extent = SHAPES[chosen["shape"]].extent * radius
        travel_x, travel_y = (speed * (BORDER_FREE_FRAMES - 1) * part for part in MOTIONS[chosen["motion"]])
        rise = bounce_height if chosen["motion"] == "bounce" else 0.0
        lowest_x, highest_x = extent - min(travel_x, 0.0), 1 - extent - max(travel_x, 0.0)
        lowest_y, highest_y = extent - min(travel_y, 0.0) + rise, 1 - extent - max(travel_y, 0.0)

    return MovingShapesClip(
        **chosen,
        start_x=rng.uniform(lowest_x, highest_x),
        start_y=rng.uniform(lowest_y, highest_y),
        speed=speed,
        radius=radius,
        color_offset=tuple(rng.uniform(-COLOR_JITTER, COLOR_JITTER) for _ in range(3)),
        bounce_height=bounce_height,
        bounce_period=rng.uniform(*BOUNCE_PERIOD_RANGE),
        bounce_phase=rng.random(),
    )


# 3. Pixels


def clip_centers(clips: Sequence[MovingShapesClip], num_frames: int, first_frame: int = 0) -> torch.Tensor:
    """Centroids of the shapes over time.

    Args:
        clips (`Sequence[MovingShapesClip]`): `B` clips.
        num_frames (`int`): Number `F` of pixel frames.
        first_frame (`int`): Index of the first of them.

    Returns:
        `torch.Tensor`: `(B, F, 2)` float64 on the CPU, `x` and `y` in [0, 1), wrapped around the torus.
    """
    parameters = [
        (
            clip.start_x,
            clip.start_y,
            *(clip.speed * part for part in MOTIONS[clip.motion]),
            clip.bounce_height if clip.motion == "bounce" else 0.0,
            clip.bounce_period,
            clip.bounce_phase,
        )
        for clip in clips
    ]
    parameters = torch.tensor(parameters, dtype=torch.float64)[:, None].unbind(-1)  # 7 of (B, 1)
    start_x, start_y, velocity_x, velocity_y, bounce_height, bounce_period, bounce_phase = parameters
    time = torch.arange(first_frame, first_frame + num_frames, dtype=torch.float64)  # (F,)
    height = bounce_height * torch.sin(math.pi * (time / bounce_period + bounce_phase)).abs()
    centers = torch.stack([start_x + velocity_x * time, start_y + velocity_y * time - height], dim=-1)  # (B, F, 2)
    return centers.remainder(1.0)


def shape_coverage(shape: str, centers: torch.Tensor, radii: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Share of every pixel that a shape covers, on the torus.

    Args:
        shape (`str`): Name from `SHAPES`.
        centers (`torch.Tensor`): `(..., 2)`, `x` and `y` of the centroids as fractions of width and height.
        radii (`torch.Tensor`): `(...)`, fractions of the shorter side.
        height, width (`int`): Size of the frame in pixels.

    Returns:
        `torch.Tensor`: `(..., H, W)` in [0, 1], on the device and in the dtype of `centers`.
    """
    # Offsets from the centroid to the pixel centres, wrapped to half a frame either way, in pixels.
    x = (torch.arange(width, device=centers.device, dtype=centers.dtype) + 0.5) / width - centers[..., :1]
    y = (torch.arange(height, device=centers.device, dtype=centers.dtype) + 0.5) / height - centers[..., 1:]
    x = ((x - x.round()) * width)[..., None, :]  # (..., 1, W)
    y = ((y - y.round()) * height)[..., :, None]  # (..., H, 1)
    radii = (radii * min(height, width))[..., None, None]
    return (0.5 - SHAPES[shape].signed_distance(x, y, radii)).clamp_(0, 1)


def render_clips(
    clips: Sequence[MovingShapesClip],
    num_frames: int,
    height: int,
    width: int,
    device: str | torch.device = "cpu",
    first_frame: int = 0,
) -> torch.Tensor:
    """Render clips, antialiased.

    Args:
        clips (`Sequence[MovingShapesClip]`): `B` clips, at least one.
        num_frames (`int`): Number `F` of pixel frames, at least 1; there is no upper bound.
        height, width (`int`): Size in pixels, at least 8.
        device (`str` or `torch.device`): Where to render.
        first_frame (`int`): Index of the first frame: frames 17..33 continue frames 0..16.

    Returns:
        `torch.Tensor`: `(B, 3, F, H, W)` float32 in [-1, 1].

    Raises:
        ValueError: If there are no clips, or `num_frames`, `height` or `width` is too small.
    """
    if len(clips) == 0:
        raise ValueError("`clips` is empty: pass at least one clip.")
    _check_minimum("num_frames", num_frames, 1)
    _check_minimum("height", height, 8)
    _check_minimum("width", width, 8)

    centers = clip_centers(clips, num_frames, first_frame).float()
    radii = torch.tensor([clip.radius for clip in clips])[:, None].expand(-1, num_frames)
    coverage = torch.empty(len(clips), num_frames, height, width, device=device)
    for shape in SHAPES:
        rows = [row for row, clip in enumerate(clips) if clip.shape == shape]
        if rows:
            covered = shape_coverage(shape, centers[rows].to(device), radii[rows].to(device), height, width)
            coverage.index_copy_(0, torch.tensor(rows, device=device), covered)

    foreground = torch.tensor([COLORS[clip.color] for clip in clips]) / 127.5 - 1
    foreground = foreground + 2 * torch.tensor([clip.color_offset for clip in clips])
    background = torch.tensor([BACKGROUNDS[clip.background] for clip in clips]) / 127.5 - 1
    foreground, background = (
        color.clamp(-1, 1).to(device)[:, :, None, None, None] for color in (foreground, background)
    )
    return torch.lerp(background, foreground, coverage[:, None])


# 4. Captions

_SIZE_WORDS = {"small": ("small", "small", "little"), "large": ("large", "large", "big")}

# (third person, participle) pairs: "a circle moves left", "a circle moving left". The plainest is twice as likely.
_VERBS = (
    ("moves", "moving"),
    ("moves", "moving"),
    ("drifts", "drifting"),
    ("slides", "sliding"),
    ("glides", "gliding"),
)
_DIRECTION_PHRASES = {
    "left": ("to the left", "left"),
    "right": ("to the right", "right"),
    "up": ("up", "upwards"),
    "down": ("down", "downwards"),
    "up-left": ("up and to the left", "diagonally up to the left", "towards the upper left"),
    "up-right": ("up and to the right", "diagonally up to the right", "towards the upper right"),
    "down-left": ("down and to the left", "diagonally down to the left", "towards the lower left"),
    "down-right": ("down and to the right", "diagonally down to the right", "towards the lower right"),
}
_MOTION_PHRASES = {
    motion: tuple(tuple(f"{form} {phrase}" for form in verb) for phrase in phrases for verb in _VERBS)
    for motion, phrases in _DIRECTION_PHRASES.items()
} | {
    "bounce": (
        ("bounces up and down", "bouncing up and down"),
        ("bounces", "bouncing"),
        ("bounces in place", "bouncing in place"),
    ),
    "still": (
        ("stays still", "staying still"),
        ("does not move", "not moving"),
        ("rests in place", "resting in place"),
        ("stands still", "standing still"),
    ),
}
_BACKGROUND_PHRASES = (
    "on a {} background",
    "on a {} background",
    "against a {} background",
    "over a {} background",
    "over {}",
)
_SENTENCES = (
    "{subject} {verb} {background}",
    "{subject} {verb} {background}",
    "{background}, {subject} {verb}",
    "{subject} {participle} {background}",
    "a video of {subject} {participle} {background}",
)
_IMAGE_SENTENCES = ("{subject} {background}", "an image of {subject} {background}")


@dataclass(frozen=True)
class MovingShapesCaption:
    """A caption and the attributes it speaks of; only these can be asked of a video made from it.

    Args:
        text (`str`): The caption.
        mentioned (`tuple[str, ...]`): Names of attributes, in the order of `ATTRIBUTES`.
    """

    text: str
    mentioned: tuple[str, ...]


def caption_for(clip: MovingShapesClip, rng: random.Random, mention_motion: bool = True) -> MovingShapesCaption:
    """Draw a caption.

    Args:
        clip (`MovingShapesClip`): The clip to describe.
        rng (`random.Random`): Chooses the words; half of the captions mention the size.
        mention_motion (`bool`): Pass `False` for a single frame, which shows no motion.
    """
    mention_size = rng.random() < 0.5
    size_word = rng.choice(_SIZE_WORDS[clip.size]) if mention_size else None
    verb, participle = rng.choice(_MOTION_PHRASES[clip.motion])
    text = rng.choice(_SENTENCES if mention_motion else _IMAGE_SENTENCES).format(
        subject=_subject(clip, size_word),
        verb=verb,
        participle=participle,
        background=rng.choice(_BACKGROUND_PHRASES).format(clip.background),
    )
    silent = {"size": not mention_size, "motion": not mention_motion}
    return MovingShapesCaption(text, tuple(name for name in ATTRIBUTES if not silent.get(name, False)))


def canonical_caption(clip: MovingShapesClip, mention_size: bool = False) -> str:
    """The plainest caption, e.g. "a red circle moves to the right on a white background"."""
    subject = _subject(clip, clip.size if mention_size else None)
    return f"{subject} {_MOTION_PHRASES[clip.motion][0][0]} on a {clip.background} background"


def _subject(clip: MovingShapesClip, size_word: str | None) -> str:
    words = ([size_word] if size_word else []) + [clip.color, clip.shape]
    article = "an" if words[0][0] in "aeiou" else "a"
    return " ".join([article, *words])


# 5. Training batches


class MovingShapesBatches:
    """Endless batches of rendered clips with captions. Batch number `n` is a pure function of the arguments and `n`.

    Args:
        batch_size (`int`): Clips `B` per batch and rank.
        num_frames (`int`): Pixel frames `F` per clip.
        height, width (`int`): Size in pixels.
        split (`str`): `"train"`, `"held_out"` or `"all"`, see `draw_clip`.
        image_ratio (`float`): Share of batches, in [0, 1], that hold one frame per clip and captions without motion.
            Which batches these are is the same on every rank.
        seed (`int`): Names the data set.
        rank, world_size (`int`): This process and the number of processes; ranks never share a clip.
        device (`str` or `torch.device`): Where to render.

    Iterating yields dictionaries:
        - `pixel_values` (`torch.Tensor`): `(B, 3, F, H, W)` float32 in [-1, 1]; `F` is 1 in a batch of images.
        - `captions` (`list[str]`)
        - `files` (`list[str]`): a name for each clip, as data sets of files have one.
        - `mentioned_attributes` (`list[tuple[str, ...]]`): what each caption speaks of.
        - `clips` (`list[MovingShapesClip]`)

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        batch_size: int,
        num_frames: int = 17,
        height: int = 128,
        width: int = 128,
        split: str = "train",
        image_ratio: float = 0.0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: str | torch.device = "cpu",
    ):
        _check_minimum("batch_size", batch_size, 1)
        _check_minimum("num_frames", num_frames, 1)
        _check_minimum("height", height, 8)
        _check_minimum("width", width, 8)
        _check_minimum("world_size", world_size, 1)
        _check_choice("split", split, SPLITS)
        if not 0 <= image_ratio <= 1:
            raise ValueError(f"`image_ratio` is {image_ratio}: pass a share between 0 and 1.")
        if not 0 <= rank < world_size:
            raise ValueError(f"`rank` is {rank}: pass a number from 0 to {world_size - 1} (`world_size` - 1).")

        self.batch_size = batch_size
        self.num_frames = num_frames
        self.height = height
        self.width = width
        self.split = split
        self.image_ratio = image_ratio
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.device = device
        self.position = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        batch = self.batch_at(self.position)
        self.position += 1
        return batch

    def batch_at(self, position: int) -> dict[str, Any]:
        """Batch number `position`, as the iteration would yield it; does not move the iteration."""
        is_image = random.Random(f"moving-shapes-{self.seed}-batch-{position}").random() < self.image_ratio
        first_index = (position * self.world_size + self.rank) * self.batch_size
        indices = range(first_index, first_index + self.batch_size)
        clips = [draw_clip(index, self.seed, self.split) for index in indices]
        captions = [
            caption_for(clip, random.Random(f"moving-shapes-{self.seed}-{index}-caption"), not is_image)
            for index, clip in zip(indices, clips)
        ]
        num_frames = 1 if is_image else self.num_frames
        return {
            "pixel_values": render_clips(clips, num_frames, self.height, self.width, self.device),
            "captions": [caption.text for caption in captions],
            "files": [f"moving_shapes/{self.split}/seed-{self.seed}/clip-{index}" for index in indices],
            "mentioned_attributes": [caption.mentioned for caption in captions],
            "clips": clips,
        }

    def state_dict(self) -> dict[str, int]:
        """The number of the next batch, all that is needed to resume."""
        return {"position": self.position}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue at the batch that `state_dict` names."""
        self.position = state_dict["position"]


def _check_choice(name: str, value: str, choices: Sequence[str] | dict[str, Any]) -> None:
    if value not in choices:
        raise ValueError(f"`{name}` is {value!r}: pass one of {', '.join(choices)}.")


def _check_minimum(name: str, value: int, minimum: int) -> None:
    if value < minimum:
        raise ValueError(f"`{name}` is {value}: pass at least {minimum}.")
