# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Protocols as data: everything that decides an FVD besides the model. One YAML file each, in `protocols/` beside this file.

A protocol names both sets of clips, how a clip is cut and resized, and the network and feature that it is seen through. Two
numbers can be compared if their protocols are the same in every field.
"""

import dataclasses
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any


STARTS = ("random", "center", "first")
WINDOWS = ("one", "all")
FITS = ("cover", "squash")
KERNELS = ("bilinear", "bicubic", "area")
ALIGNMENTS = ("half_pixel", "corner")
ROUND_TRIPS = ("none", "uint8", "mp4")
FEATURES = ("logits", "pooled")
SPLITS = ("train", "validation", "test", "all")


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"`{name}` is {value!r}: pass one of {', '.join(choices)}.")


@dataclass(frozen=True)
class ClipProtocol:
    """
    How a clip is cut out of a video and brought to its size.

    Args:
        num_frames (`int`): Pixel frames.
        height, width (`int`): Pixels that the clip is brought to; the network's own size comes after.
        frame_stride (`int`, defaults to 1): Take every so many-th frame.
        fps (`float`, *optional*): Instead of a stride, frames per second to sample at.
        windows (`str`, defaults to `"one"`):
            `"one"` clip of a video, or `"all"` disjoint ones: of a video whose frame rate varies, by its average rate.
        start (`str`, defaults to `"random"`): Where the one clip begins: `"random"` (by the seed), `"center"` or `"first"`.
        fit (`str`, defaults to `"cover"`):
            `"cover"`, keep the proportions and crop the centre; or `"squash"`, stretch. Pixels count as squares, as where published
            numbers were made.
        kernel (`str`, defaults to `"bilinear"`): Of the resizing: `"bilinear"`, `"bicubic"` or `"area"`.
        antialias (`bool`, defaults to `True`): Whether the kernel widens when a clip gets smaller.
        round_trip (`str`, defaults to `"uint8"`): What a clip goes through at its size: `"uint8"` rounds to 256 levels, `"mp4"`
            writes and reads H.264 (samples; real clips are rounded), `"none"` keeps floats.
    """

    num_frames: int
    height: int
    width: int
    frame_stride: int = 1
    fps: float | None = None
    windows: str = "one"
    start: str = "random"
    fit: str = "cover"
    kernel: str = "bilinear"
    antialias: bool = True
    round_trip: str = "uint8"

    def __post_init__(self):
        for name in ("num_frames", "height", "width", "frame_stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}: pass at least 1.")
        if self.fps is not None and (self.fps <= 0 or self.frame_stride != 1):
            raise ValueError(f"`fps` is {self.fps} with `frame_stride` {self.frame_stride}: pass one, above 0.")
        choices = {"windows": WINDOWS, "start": STARTS, "fit": FITS, "kernel": KERNELS, "round_trip": ROUND_TRIPS}
        for name, values in choices.items():
            _check_choice(name, getattr(self, name), values)
        if self.kernel == "area" and self.antialias:
            raise ValueError("`antialias` is true with the kernel 'area', which has none: pass false.")


@dataclass(frozen=True)
class NetworkProtocol:
    """
    What clips are seen through.

    Args:
        features (`str`, defaults to `"logits"`): `"logits"` (400 numbers) or `"pooled"` (1024).
        kernel (`str`, defaults to `"bilinear"`): Of the resizing to the network's 224 by 224 pixels, proportions not kept.
        alignment (`str`, defaults to `"half_pixel"`): `"half_pixel"`, as PyTorch resizes; `"corner"`, as TensorFlow 1 does.
        antialias (`bool`, defaults to `False`): Whether that kernel widens for clips larger than 224 pixels.
        name (`str`, defaults to `"i3d-kinetics-400"`): There is one.
    """

    features: str = "logits"
    kernel: str = "bilinear"
    alignment: str = "half_pixel"
    antialias: bool = False
    name: str = "i3d-kinetics-400"

    def __post_init__(self):
        _check_choice("features", self.features, FEATURES)
        _check_choice("kernel", self.kernel, KERNELS)
        _check_choice("alignment", self.alignment, ALIGNMENTS)
        _check_choice("name", self.name, ("i3d-kinetics-400",))
        if self.alignment == "corner" and (self.kernel != "bilinear" or self.antialias):
            raise ValueError("`alignment` is 'corner', which is for the kernel 'bilinear' without `antialias`.")


@dataclass(frozen=True)
class Protocol:
    """
    One way to score a model.

    Args:
        name (`str`): Of the file.
        title (`str`): What it is, for people.
        data (`str`): Which data the real clips are of; `"any"` if that is the caller's choice.
        split (`str`): `"train"`, `"validation"`, `"test"` or `"all"`, of the real clips.
        num_real (`int`, *optional*): Real clips, drawn by the seed; all if `None`.
        num_fake (`int`, *optional*): Generated clips, the first ones of a dump; all if `None`.
        clips ([`ClipProtocol`]): Of both sets. Generated clips are taken from their first frame with stride 1.
        network ([`NetworkProtocol`]): Of both sets.
        given_frames (`int`, defaults to 0): Frames that a model was given to continue, for prediction.
        horizons (`tuple[int, ...]`, defaults to none): Numbers of predicted frames after which a prediction is scored too.
        published (`str`, *optional*): What is known of how the published numbers were made, and what is assumed here.
        sources (`tuple[str, ...]`): Where that is known from.
    """

    name: str
    title: str
    data: str
    split: str
    clips: ClipProtocol
    num_real: int | None = None
    num_fake: int | None = None
    network: NetworkProtocol = field(default_factory=NetworkProtocol)
    given_frames: int = 0
    horizons: tuple[int, ...] = ()
    published: str = ""
    sources: tuple[str, ...] = ()

    def __post_init__(self):
        _check_choice("split", self.split, SPLITS)
        longest = self.clips.num_frames - self.given_frames
        if self.given_frames < 0 or longest < 1:
            raise ValueError(
                f"`given_frames` is {self.given_frames} of {self.clips.num_frames} frames: pass less than all of them."
            )
        if self.horizons and (self.given_frames == 0 or not all(0 < horizon <= longest for horizon in self.horizons)):
            raise ValueError(
                f"`horizons` is {self.horizons} with `given_frames` {self.given_frames}: pass numbers of predicted frames"
                f" from 1 to {longest}, and at least one given frame."
            )

    @property
    def real_clips(self) -> ClipProtocol:
        """Those of the real clips: `"mp4"` is for samples, since the files of a data set are compressed already."""
        is_mp4 = self.clips.round_trip == "mp4"
        return dataclasses.replace(self.clips, round_trip="uint8") if is_mp4 else self.clips

    def to_dict(self) -> dict[str, Any]:
        """All fields, as they are written into results."""
        return dataclasses.asdict(self)


def protocol_names() -> list[str]:
    """The protocols that come with the package."""
    folder = resources.files(__package__) / "protocols"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def load_protocol(name: str | Path, **changes: Any) -> Protocol:
    """
    Reads a protocol.

    Args:
        name (`str` or `Path`): One of [`protocol_names`], or the path of a YAML file.
        changes: Fields of the protocol, of its `clips` or of its `network` to change; those that are `None` stay.

    Raises:
        `ValueError`: There is no such protocol, or a field is missing, unknown or has no such value.
    """
    import yaml

    if str(name).endswith((".yaml", ".yml")):
        path, text = Path(name), Path(name).read_text()
    elif name in protocol_names():
        path = Path(f"{name}.yaml")
        text = (resources.files(__package__) / "protocols" / path.name).read_text()
    else:
        raise ValueError(
            f"There is no protocol {str(name)!r}: pass a .yaml file, or one of {', '.join(protocol_names())}."
        )
    fields = yaml.safe_load(text)
    changes = {key: value for key, value in changes.items() if value is not None}
    clips = _fill(ClipProtocol, fields.pop("clips", {}), changes, f"{path}, clips")
    network = _fill(NetworkProtocol, fields.pop("network", {}), changes, f"{path}, network")
    for name in ("horizons", "sources"):
        if name in fields:
            fields[name] = tuple(fields[name])
    return _fill(Protocol, {"name": path.stem, "clips": clips, "network": network, **fields}, changes, str(path))


def _fill(cls: type, fields: dict[str, Any], changes: dict[str, Any], where: str) -> Any:
    known = {item.name: item for item in dataclasses.fields(cls)}
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise ValueError(f"{where}: unknown fields {', '.join(unknown)}; there are {', '.join(known)}.")
    values = fields | {key: changes[key] for key in known if key in changes}
    missing = [
        name
        for name, item in known.items()
        if name not in values and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{where}: the fields {', '.join(missing)} are missing.")
    return cls(**values)
