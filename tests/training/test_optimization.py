# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Claims about the optimiser, its schedule, one step, and averaged weights."""

from argparse import ArgumentParser

import pytest
import torch
import torch.nn as nn
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

from tests.tiny_components import make_tiny_transformer, make_tiny_vae
from videoar_pipelines.training.arguments import add_run_arguments
from videoar_pipelines.training.optimization import (
    average_decay,
    make_average,
    make_lr_schedule,
    make_optimizer,
    parameter_groups,
    take_step,
    update_average,
)


@pytest.fixture
def args():
    parser = ArgumentParser()
    add_run_arguments(parser, learning_rate=0.1, lr_warmup_steps=2, weight_decay=0.5, ema_decay=0.9)
    return parser.parse_args(["--output_dir", "run", "--max_train_steps", "4", "--lr_scheduler", "linear"])


@pytest.fixture
def accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    yield Accelerator(cpu=True, gradient_accumulation_steps=2)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.mark.parametrize(("decay", "num_steps"), [(0.9995, 3), (0.9995, 300), (0.9, 300)])
def test_the_decay_that_an_average_ends_with_is_known(decay, num_steps):
    model = torch.nn.Linear(1, 1)
    average = make_average(model, decay)
    for _ in range(num_steps):
        update_average(average, model)
    assert average.cur_decay_value == pytest.approx(average_decay(decay, num_steps))


@pytest.mark.parametrize("model", [make_tiny_transformer(), make_tiny_vae()], ids=lambda model: type(model).__name__)
def test_weights_of_two_dimensions_or_more_decay_and_others_do_not(model):
    decayed, not_decayed = parameter_groups(model.parameters(), 0.1)
    assert (decayed["weight_decay"], not_decayed["weight_decay"]) == (0.1, 0.0)
    assert all(parameter.ndim >= 2 for parameter in decayed["params"])
    assert all(parameter.ndim < 2 for parameter in not_decayed["params"])
    assert len(decayed["params"]) + len(not_decayed["params"]) == len(list(model.parameters()))


def test_there_is_no_group_without_parameters():
    assert len(parameter_groups([nn.Parameter(torch.ones(2, 2))], 0.1)) == 1


def test_decay_shortens_matrices_and_leaves_biases(args):
    layer = nn.Linear(3, 2)
    before = {name: parameter.detach().clone() for name, parameter in layer.named_parameters()}
    optimizer = make_optimizer(layer.parameters(), args)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(layer.weight, before["weight"] * (1 - 0.1 * 0.5))  # learning rate times decay
    assert torch.equal(layer.bias, before["bias"])


def test_the_schedule_warms_up_and_ends_at_zero(args):
    optimizer = make_optimizer([nn.Parameter(torch.ones(2, 2))], args)
    schedule, rates = make_lr_schedule(optimizer, args), []
    for _ in range(args.max_train_steps + 1):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0, 0.05, 0.1, 0.05, 0])


def test_a_learning_rate_of_its_own_takes_the_place_of_the_flag(args):
    optimizer = make_optimizer([nn.Parameter(torch.ones(2, 2))], args, learning_rate=0.01)
    assert optimizer.param_groups[0]["lr"] == 0.01 and optimizer.param_groups[0]["betas"] == (0.9, 0.95)


def test_a_step_is_taken_with_its_last_batch_and_its_gradients_are_clipped(args, accelerator):
    weight = nn.Parameter(torch.zeros(1, 4))
    bare_optimizer = make_optimizer([weight], args)
    optimizer = accelerator.prepare(bare_optimizer)
    norms = []
    for _ in range(2):
        with accelerator.accumulate():
            norms.append(take_step(accelerator, (3 * weight).sum(), optimizer, [weight], max_grad_norm=0.5))
    assert norms[0] is None and norms[1].item() == pytest.approx(6)  # four gradients of 3
    assert (weight < 0).all() and weight.grad is None
    first_moment = bare_optimizer.state[weight]["exp_avg"]
    torch.testing.assert_close(first_moment.norm(), torch.tensor(0.05))  # a tenth of the clipped gradient


def test_the_average_follows_closely_at_first_and_then_slowly():
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.zero_()
    average, distances = make_average(layer, 0.9), []
    for _ in range(40):
        layer.weight.data.add_(1)
        update_average(average, layer)
        distances.append((layer.weight - average.shadow_params[0]).item())
    assert distances[0] == 0 and distances[4] < 3
    assert distances[-1] == pytest.approx(
        9, rel=0.05
    )  # how far an average of decay 0.9 is after what moves by 1 a step


def test_the_average_leaves_frozen_weights_out():
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    average = make_average(layer, 0.9)
    update_average(average, layer)
    assert [tuple(averaged.shape) for averaged in average.shadow_params] == [(2, 2)]
