# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Protocols: those of the package can be read, a wrong one says what is wrong, and a change is a change."""

import pytest
import yaml

from videoar_pipelines.evaluation.protocols import ClipProtocol, NetworkProtocol, load_protocol, protocol_names


def write_protocol(folder, **fields):
    path = folder / "mine.yaml"
    clips = {"num_frames": 17, "height": 64, "width": 64}
    path.write_text(yaml.safe_dump({"title": "Mine", "data": "any", "split": "all", "clips": clips} | fields))
    return path


@pytest.mark.parametrize("name", protocol_names())
def test_every_protocol_of_the_package_is_complete(name):
    protocol = load_protocol(name)
    assert protocol.name == name and protocol.title
    assert protocol.clips.num_frames >= 9
    if protocol.data in ("ucf101", "kinetics600"):
        assert protocol.published and protocol.sources


def test_the_protocols_of_the_field_differ_where_the_field_does():
    fields = {name: load_protocol(name) for name in protocol_names()}
    assert (fields["ucf101-tats"].num_real, fields["ucf101-tats"].num_fake) == (2048, 2048)
    assert not fields["ucf101-tats"].clips.antialias
    larp = fields["ucf101-larp"]
    assert larp.num_real == 10000 and larp.clips.windows == "all" and larp.clips.round_trip == "none"
    assert fields["ucf101-magvit"].network.alignment == "corner"
    assert fields["ucf101-omnitokenizer"].split == "all" and fields["ucf101-omnitokenizer"].clips.fit == "squash"
    assert fields["ucf101-nbp"].clips.fps == 8
    assert fields["ucf101-videoar"].split == "validation" and fields["ucf101-videoar"].num_real is None
    assert fields["kinetics600-prediction"].given_frames == 5


def test_a_change_reaches_the_field_of_its_name():
    protocol = load_protocol("ucf101-tats", num_fake=50, num_frames=9, features="pooled", height=None)
    assert (protocol.num_fake, protocol.clips.num_frames, protocol.network.features) == (50, 9, "pooled")
    assert protocol.clips.height == 128  # `None` changes nothing
    assert protocol.num_real == 2048


def test_mp4_is_for_samples():
    protocol = load_protocol("ucf101-omnitokenizer")
    assert (protocol.clips.round_trip, protocol.real_clips.round_trip) == ("mp4", "uint8")
    assert load_protocol("ucf101-larp").real_clips.round_trip == "none"


def test_a_file_of_ones_own_is_read(tmp_path):
    protocol = load_protocol(write_protocol(tmp_path, given_frames=5, horizons=[4, 12]))
    assert (protocol.name, protocol.horizons, protocol.clips.kernel) == ("mine", (4, 12), "bilinear")
    assert load_protocol(str(tmp_path / "mine.yaml")).to_dict()["clips"]["num_frames"] == 17


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"split": "held_out"}, "`split` is 'held_out': pass one of train, validation, test, all"),
        ({"clips": {"num_frames": 17, "height": 64}}, "clips: the fields width are missing"),
        ({"network": {"feature": "pooled"}}, "network: unknown fields feature"),
        ({"given_frames": 17}, "`given_frames` is 17 of 17 frames"),
        ({"horizons": [4]}, "at least one given frame"),
        ({"given_frames": 5, "horizons": [13]}, "numbers of predicted frames from 1 to 12"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        load_protocol(write_protocol(tmp_path, **fields))


def test_settings_that_exclude_each_other_are_refused():
    with pytest.raises(ValueError, match="`fps` is 8 with `frame_stride` 2"):
        ClipProtocol(17, 64, 64, fps=8, frame_stride=2)
    with pytest.raises(ValueError, match="`antialias` is true with the kernel 'area'"):
        ClipProtocol(17, 64, 64, kernel="area")
    with pytest.raises(ValueError, match="`alignment` is 'corner'"):
        NetworkProtocol(alignment="corner", kernel="bicubic")
    with pytest.raises(ValueError, match="There is no protocol 'ucf'"):
        load_protocol("ucf")
