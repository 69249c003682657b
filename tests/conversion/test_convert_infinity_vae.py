# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0

import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.vae import Decoder, Encoder
from safetensors.torch import load_file

from conversion.convert_infinity_vae_to_videoar import BIT_TENSORS, ConversionError, load_tensors, main, rename
from videoar_pipelines import AutoencoderVideoAR
from videoar_pipelines.models.quantization import features_to_maps, flatten_bits, sequence_inputs
from videoar_pipelines.utils.command_line import UsageError


ROOT = Path(__file__).parents[2]
INFINITY = ROOT / "tests" / "fixtures" / "infinity-image-vae"


# 1. The small reference checkpoint, made with Infinity's code


@pytest.fixture(scope="module")
def arrays():
    return load_file(INFINITY / "expected.safetensors")


@pytest.fixture(scope="module")
def schedule():
    config = json.loads((INFINITY / "config.json").read_text())
    return tuple(tuple(grid) for grid in config["scale_schedule"])


@pytest.fixture(scope="module")
def converted_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("converted") / "vae"
    main(["--checkpoint_path", str(INFINITY / "infinity_vae_tiny.pth"), "--output_path", str(path)])
    return path


@pytest.fixture(scope="module")
def vae(converted_path):
    return AutoencoderVideoAR.from_pretrained(converted_path).requires_grad_(False)


def test_the_configuration_is_read_from_the_shapes(vae):
    config = json.loads((INFINITY / "config.json").read_text())
    assert vae.config.latent_channels == config["codebook_dim"]
    assert vae.config.block_out_channels == [
        config["base_channels"] * multiplier for multiplier in config["channel_multipliers"]
    ]
    assert (vae.config.layers_per_block, vae.config.decoder_layers_per_block) == (2, 3)
    assert vae.config.temporal_downsample == [False, False, True, True]


def test_an_image_has_the_features_of_infinity(vae, arrays):
    latents = vae.encode(arrays["image"].unsqueeze(2)).latents
    torch.testing.assert_close(latents.squeeze(2), arrays["features"], atol=1e-4, rtol=0)


def test_an_image_has_the_bits_of_infinity(vae, arrays, schedule):
    quantized = vae.quantize(vae.encode(arrays["image"].unsqueeze(2)).latents, schedule)
    expected = flatten_bits([arrays[f"bits.{scale}"].bool() for scale in range(len(schedule))])
    # A residual within rounding of zero may fall on either side.
    assert (flatten_bits(quantized.bits) == expected).float().mean() >= 0.9999


def test_an_image_has_the_next_scale_inputs_of_infinity(vae, arrays, schedule):
    maps = features_to_maps(vae.encode(arrays["image"].unsqueeze(2)).latents, schedule)
    inputs = sequence_inputs(maps, schedule)[:, 1:]
    torch.testing.assert_close(inputs, arrays["next_scale_inputs"], atol=1e-5, rtol=0)


def test_bits_are_decoded_to_the_image_of_infinity(vae, arrays, schedule):
    bits = [arrays[f"bits.{scale}"].bool() for scale in range(len(schedule))]
    sample = vae.decode(vae.bits_to_latents(bits, schedule)).sample
    torch.testing.assert_close(sample.squeeze(2), arrays["reconstruction"], atol=1e-4, rtol=0)


def test_saving_the_converted_model_keeps_its_bits(vae, arrays, schedule, tmp_path):
    video = arrays["image"].unsqueeze(2)[..., :64, :64]
    vae.save_pretrained(tmp_path)
    loaded = AutoencoderVideoAR.from_pretrained(tmp_path)
    bits, loaded_bits = (flatten_bits(model.quantize(model.encode(video).latents).bits) for model in (vae, loaded))
    assert torch.equal(bits, loaded_bits)


# 2. Time, with the other slices at zero. Batches of another size sum in another order: float32 rounding.


def test_every_frame_of_a_repeated_image_is_that_image(vae, arrays):
    image = arrays["image"].unsqueeze(2)[..., :64, :64]
    clip = image.expand(-1, -1, 5, -1, -1)
    features = vae.encode(image).latents
    torch.testing.assert_close(vae.encode(clip).latents, features.expand(-1, -1, 2, -1, -1), atol=1e-4, rtol=0)
    picture = vae.decode(vae.quantize(features).latents).sample
    sample = vae(clip).sample
    torch.testing.assert_close(sample, picture.expand(-1, -1, 5, -1, -1), atol=1e-4, rtol=0)


def test_a_moving_clip_is_every_fourth_frame_shown_four_times(vae):
    clip = torch.rand(1, 3, 9, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    features = [vae.encode(clip[:, :, frame : frame + 1]).latents for frame in (0, 4, 8)]
    torch.testing.assert_close(vae.encode(clip).latents, torch.cat(features, dim=2), atol=1e-4, rtol=0)
    pictures = [vae.decode(vae.quantize(latents).latents).sample for latents in features]
    shown = [pictures[(frame + 3) // 4] for frame in range(9)]
    torch.testing.assert_close(vae(clip).sample, torch.cat(shown, dim=2), atol=1e-4, rtol=0)


def test_without_strides_in_time_every_frame_is_encoded_and_decoded_as_an_image(vae):
    unstrided = AutoencoderVideoAR.from_config(vae.config, temporal_downsample=[False] * 4).eval()
    unstrided.load_state_dict(vae.state_dict())
    clip = torch.rand(1, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        pictures = [vae(clip[:, :, frame : frame + 1]).sample for frame in range(3)]
        torch.testing.assert_close(unstrided(clip).sample, torch.cat(pictures, dim=2), atol=1e-4, rtol=0)


# 3. Other files in the same layout


def public_tensors(widths=(32, 32, 64, 64), bits=6, wrapped=True) -> dict[str, torch.Tensor]:
    """Random tensors with the names and shapes of a public file, in either spelling; four levels are its stride 8."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}

    def add(name, wrapper, *shape):
        name = f"{name}.{wrapper}" if wrapped else name
        scale = shape[1] ** -0.5 / 3 if len(shape) > 1 else 0.1
        tensors[f"{name}.weight"] = torch.randn(shape, generator=generator) * scale + (len(shape) == 1)
        tensors[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.1

    def add_block(name, in_width, out_width):
        add(f"{name}.norm1", "norm", in_width)
        add(f"{name}.conv1", "conv", out_width, in_width, 3, 3)
        add(f"{name}.norm2", "norm", out_width)
        add(f"{name}.conv2", "conv", out_width, out_width, 3, 3)
        if in_width != out_width:
            add(f"{name}.nin_shortcut", "conv", out_width, in_width, 1, 1)

    last = len(widths) - 1
    add("encoder.conv_in", "conv", widths[0], 3, 3, 3)
    add("decoder.conv_in", "conv", widths[-1], bits, 3, 3)
    for level, width in enumerate(widths):
        for block in range(2):
            add_block(f"encoder.down.{level}.block.{block}", widths[max(level - 1, 0)] if block == 0 else width, width)
        for block in range(3):
            add_block(
                f"decoder.up.{level}.block.{block}", widths[min(level + 1, last)] if block == 0 else width, width
            )
        if level < last:
            add(f"encoder.down.{level}.downsample.conv", "conv", width, width, 3, 3)
        if level > 0:
            add(f"decoder.up.{level}.upsample.conv", "conv", width, width, 3, 3)
    for net, width, channels in (("encoder", widths[-1], bits), ("decoder", widths[0], 3)):
        add_block(f"{net}.mid.block_1", widths[-1], widths[-1])
        add_block(f"{net}.mid.block_2", widths[-1], widths[-1])
        add(f"{net}.norm_out", "norm", width)
        add(f"{net}.conv_out", "conv", channels, width, 3, 3)
    for quantizer in ("quantizer", "quantize"):
        tensors[f"{quantizer}.lfq.mask"] = 2 ** torch.arange(bits - 1, -1, -1)
    return tensors


def convert(checkpoint, folder: Path, *flags: str) -> AutoencoderVideoAR:
    torch.save(checkpoint, folder / "checkpoint.pth")
    main(["--checkpoint_path", str(folder / "checkpoint.pth"), "--output_path", str(folder / "vae"), *flags])
    return AutoencoderVideoAR.from_pretrained(folder / "vae").requires_grad_(False)


def test_the_stride_8_variant_equals_the_image_networks_of_diffusers(tmp_path):
    tensors = public_tensors()
    vae = convert({"vae": tensors}, tmp_path)
    assert (vae.spatial_compression_ratio, vae.temporal_compression_ratio) == (8, 4)
    assert vae.config.temporal_downsample == [False, True, True]

    widths = (32, 32, 64, 64)
    encoder = Encoder(3, 6, ("DownEncoderBlock2D",) * 4, widths, 2, 32, double_z=False, mid_block_add_attention=False)
    decoder = Decoder(6, 3, ("UpDecoderBlock2D",) * 4, widths, 2, 32, mid_block_add_attention=False)
    for network, prefix in ((encoder, "encoder."), (decoder, "decoder.")):
        renamed = {name.removeprefix(prefix): tensor for name, tensor in rename(tensors).items() if prefix in name}
        network.load_state_dict(renamed)
    image = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        features = encoder(image)
        picture = decoder(features).clamp(-1, 1)
    torch.testing.assert_close(vae.encode(image.unsqueeze(2)).latents.squeeze(2), features, atol=1e-4, rtol=0)
    torch.testing.assert_close(vae.decode(features.unsqueeze(2)).sample.squeeze(2), picture, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: tensors,
        lambda tensors: {"vae": tensors, "epoch": 3},
        lambda tensors: {"ema": tensors},
        lambda tensors: {"state_dict": tensors},
        lambda tensors: {"trainer": {"vae_local": tensors}},
    ],
    ids=["flat", "vae", "ema", "state_dict", "trainer"],
)
def test_wrapped_files_and_both_spellings_are_the_same_model(tmp_path, wrap):
    tensors = public_tensors()
    torch.save(wrap(public_tensors(wrapped=False)), tmp_path / "checkpoint.pth")
    expected, renamed = rename(tensors), rename(load_tensors(tmp_path / "checkpoint.pth"))
    assert renamed.keys() == expected.keys()
    assert all(torch.equal(renamed[name], expected[name]) for name in expected)


def test_another_number_of_bits_starts_only_the_tensors_that_depend_on_it(tmp_path, capsys):
    tensors = rename(public_tensors())
    vae = convert(public_tensors(), tmp_path, "--latent_channels", "10")
    assert vae.config.latent_channels == 10
    for name, parameter in vae.named_parameters():
        if name not in BIT_TENSORS:
            current = parameter[:, :, -1] if parameter.ndim == 5 else parameter
            assert torch.equal(current, tensors[name]), name
    assert f"10 bits, to be trained: {', '.join(BIT_TENSORS)}" in capsys.readouterr().out
    assert vae.decode(vae.quantize(vae.encode(torch.zeros(1, 3, 5, 16, 16)).latents).latents).sample.isfinite().all()


def test_random_inflation_gives_the_last_slice_the_image_weights_and_the_others_some_of_their_own(tmp_path):
    tensors = rename(public_tensors())
    vae = convert(public_tensors(), tmp_path, "--inflation", "random")
    for name, parameter in vae.named_parameters():
        if parameter.ndim == 5:
            assert torch.equal(parameter[:, :, -1], tensors[name]), name
            assert all(frame.abs().sum() > 0 for frame in parameter[:, :, :-1].unbind(2)), name


# 4. Files that cannot be converted


class RunsCode:
    def __reduce__(self):
        return os.system, ("exit 1",)


def changed(**changes) -> dict[str, torch.Tensor]:
    """Public tensors with some replaced, added or, where the new one is `None`, removed."""
    tensors = {**public_tensors(), **changes}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def saved(checkpoint, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer, **options)
    return buffer.getvalue()


MID = "decoder.mid.block_1.conv1.conv.weight"
BROKEN = {
    "truncated": (lambda: saved(public_tensors())[:200_000], "truncated or damaged"),
    "empty": (lambda: b"", "is not a PyTorch checkpoint"),
    "web page": (lambda: b"\n<!DOCTYPE html><html>Not found</html>", "is a web page"),
    "text": (lambda: b"version https://git-lfs.github.com/spec/v1", "is not a PyTorch checkpoint"),
    "pickled code": (lambda: saved({"vae": public_tensors(), "args": RunsCode()}), "pickled code"),
    "pickled code, old format": (lambda: saved(RunsCode(), _use_new_zipfile_serialization=False), "pickled code"),
    "bare pickled code": (lambda: pickle.dumps(RunsCode()), "pickled code"),
    "missing tensor": (
        lambda: saved(changed(**{MID: None})),
        r"lacks 1 tensor.*resnets.0.conv1.weight \(64, 64, 3, 3\)",
    ),
    "missing size": (lambda: saved(changed(**{"encoder.conv_in.conv.weight": None})), "lacks encoder.conv_in.weight"),
    "extra tensor": (
        lambda: saved(changed(**{"decoder.mid.attn_1.q.weight": torch.zeros(2, 3)})),
        r"has 1 tensor\(s\): decoder.mid.attn_1.q.weight \(2, 3\)",
    ),
    "extra block": (
        lambda: saved(changed(**{"decoder.mid.block_1.nin_shortcut.conv.bias": torch.zeros(3)})),
        r"has 1 tensor\(s\): decoder.mid_block.resnets.0.conv_shortcut.bias \(3,\)",
    ),
    "wrong shape": (
        lambda: saved(changed(**{MID: torch.zeros(64, 64, 1, 1)})),
        r"another shape for 1 tensor.*conv1.weight \(64, 64, 1, 1\) instead of \(64, 64, 3, 3\)",
    ),
    "not a tensor": (lambda: saved(changed(**{MID: "weights"})), "conv1.conv.weight of type str"),
    "both spellings": (lambda: saved(changed(**public_tensors(wrapped=False))), "twice, in both spellings"),
    "another model": (lambda: saved({"model": {"weight": torch.zeros(1)}}), "no key 'encoder.*' among model"),
    "a list": (lambda: saved([torch.zeros(1)]), "holds a list"),
    "odd widths": (lambda: saved(public_tensors(widths=(8, 8, 8))), "neither all multiples of 32 nor of 24"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_gives_its_own_line_and_no_folder(kind, tmp_path):
    make_file, message = BROKEN[kind]
    (tmp_path / "checkpoint.pth").write_bytes(make_file())
    with pytest.raises(ConversionError, match=message) as raised:
        main(["--checkpoint_path", str(tmp_path / "checkpoint.pth"), "--output_path", str(tmp_path / "new" / "vae")])
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pth"]


def test_a_folder_that_exists_is_left_alone(tmp_path):
    (tmp_path / "vae").mkdir()
    with pytest.raises(UsageError, match="`--output_path` .*vae exists already"):
        convert(public_tensors(), tmp_path)
    assert not any((tmp_path / "vae").iterdir())


def test_a_failure_while_writing_leaves_no_folder(tmp_path, monkeypatch):
    def run_out_of_space(self, folder):
        folder.mkdir()
        (folder / "config.json").write_text("{")
        raise OSError("No space left on device")

    monkeypatch.setattr(AutoencoderVideoAR, "save_pretrained", run_out_of_space)
    with pytest.raises(OSError, match="No space left"):
        convert(public_tensors(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pth"]


# 5. The command of the README


def test_the_command_converts_and_fails_with_one_line(tmp_path):
    (tmp_path / "infinity_vae_d32reg.pth").write_bytes(saved({"vae": public_tensors()}))
    readme = (ROOT / "conversion" / "README.md").read_text()
    command = next(line for line in readme.splitlines() if line.startswith("python conversion/convert_infinity_vae"))
    script, *flags = command.split()[1:]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    runs = [
        subprocess.run(
            [sys.executable, ROOT / script, *flags], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        for _ in range(2)
    ]
    assert runs[0].returncode == 0, runs[0].stderr
    assert AutoencoderVideoAR.from_pretrained(tmp_path / "vae").config.latent_channels == 6
    assert runs[1].returncode == 2
    assert runs[1].stderr.endswith(".py: error: `--output_path` vae exists already. Name a new one, or remove it.\n")
