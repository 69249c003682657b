# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Claims about one batch of the tokenizer's training: which halves run, in which order, and whose weights move."""

import copy

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

from tests.tiny_components import make_tiny_vae
from videoar_pipelines.training.discriminator import LeCamRegularizer, VideoPatchDiscriminator
from videoar_pipelines.training.tokenizer_step import TokenizerObjective, discriminator_step, generator_step
from videoar_pipelines.training.tokenizer_training import TokenizerTraining, TrainedModel


SCHEDULE = ((1, 1), (2, 2))
OBJECTIVE = TokenizerObjective(adversarial_weight=0.5, adversarial_weight_mode="adaptive")


@pytest.fixture
def accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture
def models():
    torch.manual_seed(0)
    return make_tiny_vae().train(), VideoPatchDiscriminator(base_channels=4, num_layers=2), LeCamRegularizer(0.5)


@pytest.fixture(scope="module")
def video():
    return torch.rand(2, 3, 5, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def with_optimizer(model, accelerator):
    parameters = list(model.parameters())
    wrapped, optimizer = accelerator.prepare(model, torch.optim.SGD(parameters, lr=0.1))
    return TrainedModel(model, wrapped, optimizer, parameters)


def start(models, accelerator):
    vae, discriminator, lecam = models
    trained = with_optimizer(vae, accelerator), with_optimizer(discriminator, accelerator)
    return TokenizerTraining(accelerator, OBJECTIVE, trained[0], 1.0, discriminator=trained[1], lecam=lecam)


def test_a_batch_moves_the_tokenizer_and_then_the_discriminator_as_the_halves_say(models, video, accelerator):
    vae, discriminator, lecam = copy.deepcopy(models)
    batch = start(models, accelerator).train_on(video, SCHEDULE, is_adversarial=True)

    output = generator_step(vae, video, SCHEDULE, OBJECTIVE, None, discriminator, vae.decoder.conv_out.weight)
    judged = discriminator_step(discriminator, lecam, video, output.reconstruction, OBJECTIVE)
    for model, half in ((vae, output), (discriminator, judged)):
        half.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    for model, expected in zip(models[:2], (vae, discriminator)):
        for name, parameter in expected.named_parameters():
            torch.testing.assert_close(model.get_parameter(name), parameter, msg=name)
    assert torch.equal(models[2].real_mean, lecam.real_mean)
    assert batch.terms.keys() == (output.terms | judged.terms).keys()
    assert batch.norms.keys() == {"gradient_norm", "discriminator_gradient_norm"}


def test_before_its_start_the_discriminator_neither_judges_nor_moves(models, video, accelerator):
    before = copy.deepcopy(models[1].state_dict())
    batch = start(models, accelerator).train_on(video, SCHEDULE, is_adversarial=False)
    assert batch.discriminator is None and batch.norms.keys() == {"gradient_norm"}
    assert "adversarial" not in batch.terms and "discriminator" not in batch.terms
    assert all(torch.equal(value, before[name]) for name, value in models[1].state_dict().items())
