# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Claims about the objective of the tokenizer: every term and its weight, and where gradients go."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tests.tiny_components import make_tiny_vae
from videoar_pipelines.training.discriminator import (
    LeCamRegularizer,
    VideoPatchDiscriminator,
    discriminator_loss,
    generator_loss,
)
from videoar_pipelines.training.perceptual import PerceptualLoss
from videoar_pipelines.training.tokenizer_step import (
    TokenizerObjective,
    discriminator_step,
    generator_step,
    random_scale_mask,
)


SCHEDULE = ((1, 1), (2, 2))
# Every weight is another power of two: a product with it is exact.
OBJECTIVE = TokenizerObjective(
    reconstruction_weight=2.0,
    perceptual_weight=0.5,
    commitment_weight=0.25,
    entropy_weight=4.0,
    adversarial_weight=0.125,
    lecam_weight=8.0,
)


@pytest.fixture(scope="module")
def video():
    return torch.rand(2, 3, 5, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return make_tiny_vae().train()


@pytest.fixture(scope="module")
def perceptual():
    torch.manual_seed(0)
    return PerceptualLoss(((4,), (4,)))


@pytest.fixture
def discriminator():
    torch.manual_seed(0)
    return VideoPatchDiscriminator(base_channels=4, num_layers=2)


@pytest.fixture
def lecam():
    lecam = LeCamRegularizer(decay=0.5)
    lecam.real_mean.fill_(0.5)
    lecam.fake_mean.fill_(-0.5)
    return lecam


# 1. The generator half


@pytest.mark.parametrize("kind, distance", [("l1", F.l1_loss), ("l2", F.mse_loss)])
def test_every_term_is_its_loss_times_its_weight(vae, video, perceptual, discriminator, kind, distance):
    objective = replace(OBJECTIVE, reconstruction_loss=kind)
    output = generator_step(vae, video, SCHEDULE, objective, perceptual, discriminator)
    direct = vae(video, SCHEDULE)
    expected = {
        "reconstruction": 2.0 * distance(direct.sample, video),
        "perceptual": 0.5 * perceptual(video, direct.sample),
        "commitment": 0.25 * direct.commitment_loss,
        "entropy": 4.0 * direct.entropy_loss,
        "adversarial": 0.125 * generator_loss(discriminator(direct.sample), "hinge"),
    }
    assert list(output.terms) == list(expected)
    for name, value in expected.items():
        assert value != 0 and torch.equal(output.terms[name], value), name
    assert torch.equal(output.loss, sum(expected.values()))
    assert torch.equal(output.reconstruction, direct.sample) and torch.equal(output.features, direct.latents)
    assert all(torch.equal(bits, others) for bits, others in zip(output.bits, direct.bits))
    assert output.adaptive_weight == 1


def test_without_perceptual_loss_and_discriminator_their_terms_are_zero_and_missing(vae, video):
    terms = generator_step(vae, video, SCHEDULE, OBJECTIVE).terms
    assert terms["perceptual"] == 0 and "adversarial" not in terms


def test_the_adaptive_weight_makes_the_adversarial_term_pull_as_hard_as_those_on_pixels(
    vae, video, perceptual, discriminator
):
    objective = replace(OBJECTIVE, adversarial_weight=1.0, adversarial_weight_mode="adaptive")
    last_layer = vae.decoder.conv_out.weight
    output = generator_step(vae, video, SCHEDULE, objective, perceptual, discriminator, last_layer)
    on_pixels = output.terms["reconstruction"] + output.terms["perceptual"]
    norms = [
        torch.autograd.grad(term, last_layer, retain_graph=True)[0].norm()
        for term in (on_pixels, output.terms["adversarial"])
    ]
    # The factor divides by the norm plus 1e-4.
    torch.testing.assert_close(norms[0], norms[1], rtol=1e-2, atol=0)
    assert output.adaptive_weight != 1


def test_the_generator_half_trains_the_tokenizer_and_nothing_else(vae, video, perceptual, discriminator):
    generator_step(vae, video, SCHEDULE, OBJECTIVE, perceptual, discriminator).loss.backward()
    assert all(parameter.grad is not None for parameter in vae.parameters())
    assert all(parameter.grad is None for model in (perceptual, discriminator) for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in discriminator.parameters())


def test_every_term_has_gradients(vae, video, perceptual, discriminator):
    terms = generator_step(vae, video, SCHEDULE, OBJECTIVE, perceptual, discriminator).terms
    for name, term in terms.items():
        (gradient,) = torch.autograd.grad(term, vae.encoder.conv_in.weight, retain_graph=True)
        assert gradient.abs().sum() > 0, name


def test_the_perceptual_term_of_drawn_frames_is_that_of_all_on_average(vae, video, perceptual):
    terms = []
    for seed in range(400):
        torch.manual_seed(seed)
        with torch.no_grad():
            terms.append(
                generator_step(vae, video, SCHEDULE, replace(OBJECTIVE, perceptual_frames=2), perceptual).terms
            )
    values = torch.stack([term["perceptual"] for term in terms])
    with torch.no_grad():
        whole = generator_step(vae, video, SCHEDULE, OBJECTIVE, perceptual).terms["perceptual"]
    assert values.unique().numel() > 1
    # The mean of 400 draws is within five of its standard errors.
    assert abs(values.mean() - whole) < 5 * values.std() / 20


def test_scales_are_dropped_in_the_asked_share_of_clips(vae, video):
    objective = TokenizerObjective(scale_drop_probability=1.0)
    torch.manual_seed(0)
    dropped = generator_step(vae, video, SCHEDULE, objective)
    coarse = vae(video, SCHEDULE, torch.tensor([[True, False]]).expand(2, -1)).sample
    assert torch.equal(dropped.reconstruction, coarse)  # of two scales only the second can be dropped
    assert not torch.equal(dropped.reconstruction, generator_step(vae, video, SCHEDULE, OBJECTIVE).reconstruction)


def test_dropped_scales_are_the_finest_of_the_asked_share():
    mask = random_scale_mask(4000, 6, 0.4, generator=torch.Generator().manual_seed(0))
    kept = mask.sum(dim=1)
    assert mask.equal(torch.arange(6) < kept[:, None])  # coarse scales first, no gaps
    assert abs((kept < 6).float().mean() - 0.4) < 0.04
    assert kept.unique().tolist() == [1, 2, 3, 4, 5, 6]
    assert random_scale_mask(8, 6, 0.0).all() and random_scale_mask(8, 1, 1.0).all()


# 2. The discriminator half


@pytest.mark.parametrize("kind", ["hinge", "non_saturating"])
def test_the_discriminator_minimises_its_loss_and_lecam(vae, video, discriminator, lecam, kind):
    objective = replace(OBJECTIVE, adversarial_loss=kind)
    reconstruction = generator_step(vae, video, SCHEDULE, objective).reconstruction
    real_logits, fake_logits = discriminator(torch.cat([video, reconstruction])).chunk(2)
    expected = {
        "discriminator": discriminator_loss(real_logits, fake_logits, kind),
        "lecam": 8.0 * lecam(real_logits, fake_logits),
    }
    output = discriminator_step(discriminator, lecam, video, reconstruction, objective)
    for name, value in expected.items():
        assert value != 0 and torch.equal(output.terms[name], value), name
    assert torch.equal(output.loss, sum(expected.values()))
    assert torch.equal(output.real_logits, real_logits) and torch.equal(output.fake_logits, fake_logits)


def test_the_discriminator_half_sees_a_detached_reconstruction(vae, video, discriminator, lecam):
    reconstruction = generator_step(vae, video, SCHEDULE, OBJECTIVE).reconstruction
    assert reconstruction.requires_grad
    discriminator_step(discriminator, lecam, video, reconstruction, OBJECTIVE).loss.backward()
    assert all(parameter.grad is not None for parameter in discriminator.parameters())
    assert all(parameter.grad is None for parameter in vae.parameters())


def test_lecam_compares_with_the_means_of_earlier_steps_and_then_moves_them(vae, video, discriminator, lecam):
    reconstruction = generator_step(vae, video, SCHEDULE, OBJECTIVE).reconstruction
    output = discriminator_step(discriminator, lecam, video, reconstruction, OBJECTIVE)
    assert lecam.real_mean.item() == pytest.approx((0.5 + output.real_logits.mean().item()) / 2)
    assert lecam.fake_mean.item() == pytest.approx((-0.5 + output.fake_logits.mean().item()) / 2)


def test_terms_are_float32_under_autocast(vae, video, perceptual, discriminator, lecam):
    with torch.autocast("cpu", torch.bfloat16):
        output = generator_step(vae, video, SCHEDULE, OBJECTIVE, perceptual, discriminator)
        judged = discriminator_step(discriminator, lecam, video, output.reconstruction, OBJECTIVE)
    assert output.reconstruction.dtype == torch.float32
    assert {term.dtype for term in (output.terms | judged.terms).values()} == {torch.float32}
