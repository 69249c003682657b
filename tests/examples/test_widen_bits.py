# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""More bits for a trained pipeline: what it has learnt stays, and it can be called and trained."""

import pytest
import torch

from tests.examples.training_scripts import REPOSITORY, run_script, save_tiny_pipeline
from videoar_pipelines import VideoARPipeline
from videoar_pipelines.utils.command_line import UsageError


SCRIPT = REPOSITORY / "examples" / "robot_arm" / "widen_bits.py"


@torch.no_grad()
def test_a_widened_pipeline_decodes_and_reads_its_old_bits_as_before(tmp_path, capsys):
    folder = save_tiny_pipeline(tmp_path / "pipeline")
    pipe = VideoARPipeline.from_pretrained(folder)
    old = pipe.vae.config.latent_channels
    bits, wide_folder = 2 * old, tmp_path / "wide"
    run_script(SCRIPT, "--pretrained_pipeline", folder, "--latent_channels", bits, "--output_dir", wide_folder)
    assert f"{old} bits to {bits}" in capsys.readouterr().out
    wide = VideoARPipeline.from_pretrained(wide_folder)
    assert wide.vae.config.latent_channels == wide.transformer.config.out_channels == bits

    # A bit is a step of 1 / sqrt(bits), so the same bits are sums smaller by sqrt(2); the new bits are not read yet.
    latents = torch.randn(1, old, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    same = torch.cat([latents / 2**0.5, torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))], dim=1)
    expected = pipe.vae.decode(latents).sample
    torch.testing.assert_close(wide.vae.decode(same).sample, expected, atol=1e-5, rtol=1e-4)

    num_sums = pipe.transformer.config.in_channels // old
    sums = torch.randn(1, 3, num_sums, old, generator=torch.Generator().manual_seed(2))
    same = torch.cat([sums / 2**0.5, torch.zeros_like(sums)], dim=-1)
    embedded = wide.transformer.map_embedder(same.flatten(-2))
    torch.testing.assert_close(embedded, pipe.transformer.map_embedder(sums.flatten(-2)), atol=1e-5, rtol=1e-4)
    hidden = torch.randn(1, 3, wide.transformer.proj_out.in_features)
    torch.testing.assert_close(wide.transformer.proj_out(hidden)[..., :old], pipe.transformer.proj_out(hidden))

    video = torch.rand(1, 3, 5, 32, 32, generator=torch.Generator().manual_seed(3)) * 2 - 1
    old_features, features = (model.encode(video).latents for model in (pipe.vae, wide.vae))
    torch.testing.assert_close(features[:, :old] * 2**0.5, old_features, atol=1e-5, rtol=1e-4)
    assert features[:, old:].std() > 0


def test_fewer_bits_are_refused(tmp_path):
    folder = save_tiny_pipeline(tmp_path / "pipeline")
    bits = VideoARPipeline.from_pretrained(folder).vae.config.latent_channels
    arguments = ("--pretrained_pipeline", folder, "--latent_channels", bits, "--output_dir", tmp_path / "wide")
    with pytest.raises(UsageError, match=f"`--latent_channels` is {bits}, and a token has {bits} bits already"):
        run_script(SCRIPT, *arguments)
    assert not (tmp_path / "wide").exists()


def test_a_folder_that_exists_is_left_alone_before_anything_is_loaded(tmp_path):
    (tmp_path / "wide").mkdir()
    arguments = (
        "--pretrained_pipeline",
        tmp_path / "absent",
        "--latent_channels",
        64,
        "--output_dir",
        tmp_path / "wide",
    )
    with pytest.raises(UsageError, match="`--output_dir` .*wide exists already"):
        run_script(SCRIPT, *arguments)
    assert not any((tmp_path / "wide").iterdir())
