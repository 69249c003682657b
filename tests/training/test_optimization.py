# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Claims about the optimiser, its schedule, one step, and averaged weights."""

from argparse import ArgumentParser

import pytest
import torch
import torch.nn as nn
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

from tests.tiny_components import make_tiny_text_encoder, make_tiny_transformer, make_tiny_vae
from videoar_pipelines.training.arguments import add_run_arguments
from videoar_pipelines.training.optimization import (
    average_decay,
    block_matrices,
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


def test_muon_is_for_the_linear_layers_of_blocks():
    transformer, text_encoder = make_tiny_transformer(num_layers=1), make_tiny_text_encoder(10)
    transformer.blocks[0].attn.to_q.weight.requires_grad_(False)
    names = {parameter: name for model in (transformer, text_encoder) for name, parameter in model.named_parameters()}
    assert [names[weight] for weight in block_matrices(transformer)] == [
        f"blocks.0.{name}.weight" for name in ("attn.to_k", "attn.to_v", "attn.to_out.0", "ff.net.0.proj", "ff.net.2")
    ]
    # Not the table of relative positions, which T5 keeps in its first block.
    assert {names[weight].split(".")[-2] for weight in block_matrices(text_encoder)} == {
        "q",
        "k",
        "v",
        "o",
        "wi",
        "wo",
    }


def take_steps(layer, optimizer, num_steps=2):
    generator = torch.Generator().manual_seed(0)
    for _ in range(num_steps):
        for parameter in layer.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def test_a_step_of_muon_is_as_large_as_one_of_adamw_and_has_equal_singular_values(args):
    layer = nn.Linear(64, 32)
    before = layer.weight.detach().clone()
    args.weight_decay = 0.0
    take_steps(layer, make_optimizer(layer.parameters(), args, matrices=[layer.weight]), num_steps=1)
    singular_values = torch.linalg.svdvals(before - layer.weight) / (0.1 * 0.2 * 64**0.5)
    # Five Newton-Schulz iterations leave them about one.
    assert singular_values.min() > 0.5 and singular_values.max() < 1.5


def test_beside_muon_other_weights_move_as_with_adamw_alone(args):
    layers = [nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    for layer, matrices in zip(layers, ([], [layers[1][0].weight])):
        optimizer = make_optimizer(layer.parameters(), args, matrices=matrices)
        schedule = make_lr_schedule(optimizer, args)
        for _ in range(3):
            take_steps(layer, optimizer, num_steps=1)
            schedule.step()
    same = {name: tensor.equal(layers[1].state_dict()[name]) for name, tensor in layers[0].state_dict().items()}
    assert same == {"0.weight": False, "0.bias": True, "1.weight": True, "1.bias": True}


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


def test_a_step_leaves_the_gradients_of_another_optimiser_as_fp16_has_scaled_them(args, accelerator):
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    accelerator.native_amp, accelerator.state._mixed_precision = True, "fp16"
    weights = [nn.Parameter(torch.zeros(1, 4)) for _ in range(2)]
    optimizers = [accelerator.prepare(torch.optim.SGD([weight], 1.0)) for weight in weights]
    for _ in range(2):
        with accelerator.accumulate():  # first the tokenizer and then the discriminator, as `TokenizerTraining` does
            for weight, optimizer in zip(weights, optimizers):
                take_step(accelerator, weight.sum(), optimizer, [weight], max_grad_norm=100.0)
    assert all(weight.tolist() == [[-1.0] * 4] for weight in weights)  # the mean of two gradients of 1


@pytest.mark.parametrize("has_muon", [False, True])
def test_every_schedule_goes_with_every_optimiser(args, has_muon):
    parser = ArgumentParser()
    add_run_arguments(parser, learning_rate=0.1, lr_warmup_steps=2, weight_decay=0.5, ema_decay=0.9)
    layer = nn.Linear(3, 2)
    for name in next(action.choices for action in parser._actions if action.dest == "lr_scheduler"):
        args.lr_scheduler = name
        optimizer = make_optimizer(layer.parameters(), args, matrices=[layer.weight] if has_muon else [])
        schedule = make_lr_schedule(optimizer, args)
        rates = []
        for _ in range(4):
            take_steps(layer, optimizer, num_steps=1)
            schedule.step()
            rates.append({group["lr"] for group in optimizer.param_groups})
        assert all(len(of_groups) == 1 for of_groups in rates)  # both parts follow one schedule
        assert (len(set.union(*rates)) == 1) == (name == "constant")


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
