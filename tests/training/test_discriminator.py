# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from videoar_pipelines.training.discriminator import (
    LeCamRegularizer,
    VideoPatchDiscriminator,
    adaptive_weight,
    discriminator_balance,
    discriminator_loss,
    generator_loss,
)


@pytest.fixture(scope="module")
def discriminator():
    torch.manual_seed(0)
    return VideoPatchDiscriminator(base_channels=8, num_layers=3)


def test_it_judges_patches_of_videos_and_images(discriminator):
    assert discriminator(torch.zeros(2, 3, 17, 64, 64)).shape == (2, 1, 5, 6, 6)
    assert discriminator(torch.zeros(1, 3, 1, 64, 64)).shape == (1, 1, 1, 6, 6)


def test_a_sample_is_judged_whatever_else_is_in_the_batch(discriminator):
    video = torch.randn(2, 3, 5, 32, 32)
    torch.testing.assert_close(discriminator(video)[:1], discriminator(video[:1]), rtol=1e-5, atol=1e-6)


def test_it_sees_motion(discriminator):
    still = torch.randn(1, 3, 1, 32, 32).expand(-1, -1, 9, -1, -1)
    moving = torch.stack([still[:, :, 0].roll(frame, dims=-1) for frame in range(9)], dim=2)
    assert (discriminator(still) - discriminator(moving))[:, :, 1].abs().max() > 1e-3


def poison_free_memory():
    """Leaves NaN in the memory that the next allocations are likely to get."""
    tensors = [torch.full((size,), float("nan")) for size in (2**10, 2**13, 2**16, 2**18, 2**20) for _ in range(8)]
    del tensors


@pytest.mark.parametrize("index", [2, 5, 8, 11])
def test_its_bfloat16_gradients_are_those_of_float32_whatever_lies_in_free_memory(index):
    torch.manual_seed(0)
    layer = VideoPatchDiscriminator(base_channels=16, num_layers=3).layers[index]
    # What a clip of 5 frames is to the later layers: short in time, and padded.
    inputs = torch.randn(1, layer.in_channels, 2, 4, 4).bfloat16().float()
    with torch.no_grad():
        layer.weight.copy_(layer.weight.bfloat16())
    layer(inputs).sum().backward()
    expected = layer.weight.grad.clone()
    for _ in range(5):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = layer(inputs).float().sum()
        poison_free_memory()
        loss.backward()
        # Weights, inputs and the gradient of a sum are exact in bfloat16; the sum of 32 products is rounded, by 0.4 %.
        torch.testing.assert_close(layer.weight.grad, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("kind", ["hinge", "non_saturating"])
def test_both_sides_fall_when_they_do_better(kind):
    right, wrong = torch.full((4,), 3.0), torch.full((4,), -3.0)
    assert discriminator_loss(right, wrong, kind) < 0.1
    assert discriminator_loss(wrong, right, kind) > 5
    assert generator_loss(right, kind) < generator_loss(wrong, kind)


def test_a_discriminator_learns_to_tell_noise_from_grey():
    torch.manual_seed(0)
    discriminator = VideoPatchDiscriminator(base_channels=8, num_layers=2)
    optimizer = torch.optim.Adam(discriminator.parameters(), 1e-2)
    for _ in range(20):
        real, fake = discriminator(torch.randn(4, 3, 5, 16, 16)), discriminator(torch.zeros(4, 3, 5, 16, 16))
        optimizer.zero_grad()
        discriminator_loss(real, fake, "hinge").backward()
        optimizer.step()
    balance = discriminator_balance(real, fake)
    assert balance["discriminator/real_accuracy"] > 0.95 and balance["discriminator/fake_accuracy"] > 0.95


def test_lecam_follows_the_logits_and_pulls_each_side_towards_the_other():
    lecam = LeCamRegularizer(decay=0.5)
    real, fake = torch.full((8,), 4.0), torch.full((8,), -4.0)
    for _ in range(20):
        lecam.update(real, fake)
    assert lecam.real_mean.item() == pytest.approx(4, abs=1e-4) and lecam.fake_mean.item() == pytest.approx(
        -4, abs=1e-4
    )
    assert lecam(real, fake).item() == pytest.approx(2 * 8**2, rel=1e-3)
    assert lecam(fake, real) == 0
    assert set(lecam.state_dict()) == {"real_mean", "fake_mean"}


def test_the_adaptive_weight_makes_both_losses_pull_equally_hard():
    weight = torch.randn(5, requires_grad=True)
    reconstruction, adversarial = (3 * weight).sum(), (0.25 * weight).sum()
    factor = adaptive_weight(reconstruction, adversarial, weight)
    assert factor.item() == pytest.approx(12, rel=1e-2) and not factor.requires_grad
    assert adaptive_weight(reconstruction, (0 * weight).sum(), weight) == 1e4
