# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in one process; runs of the scripts in one and several processes are in tests/examples."""

import random
import re
import resource
from argparse import Namespace

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from tests.examples.training_scripts import run_in_child
from tests.tiny_components import make_tiny_transformer
from videoar_pipelines import VideoARTransformer3DModel
from videoar_pipelines.models.token_layout import video_token_ids
from videoar_pipelines.training.checkpoints import (
    TrainingState,
    find_checkpoint,
    list_checkpoints,
    remove_unfinished_checkpoints,
    save_checkpoint,
)
from videoar_pipelines.training.disk_space import DiskFullError, check_room
from videoar_pipelines.training.optimization import block_matrices, make_average, make_optimizer, update_average
from videoar_pipelines.utils.command_line import UsageError


SCHEDULE = ((1, 1), (2, 2))
OPTIMIZATION = Namespace(learning_rate=1e-2, adam_beta1=0.9, adam_beta2=0.999, weight_decay=0.01)


class Counter:
    """Stands for the position in the data."""

    def __init__(self):
        self.position = 0

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


class Run:
    """A training run in small: weights, average, optimiser, schedule, data and all three random generators matter."""

    def __init__(self, seed=0, save_extra=None, has_muon=False):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        self.model = make_tiny_transformer(num_layers=1).train()
        self.model.text_embedder.requires_grad_(False)
        self.average = make_average(self.model, 0.99)
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        matrices = block_matrices(self.model) if has_muon else ()
        self.optimizer = make_optimizer(parameters, OPTIMIZATION, matrices=matrices)
        self.schedule = LambdaLR(self.optimizer, lambda step: 1 / (1 + step))
        self.data = Counter()
        self.state = TrainingState(
            models={"transformer": self.model},
            optimizers=[self.optimizer],
            averages={"transformer": self.average},
            shared={"schedule": self.schedule},
            per_process={"data": self.data},
            save_extra=save_extra,
        )

    def train(self, num_steps):
        ids = video_token_ids(SCHEDULE, 2)
        for _ in range(num_steps):
            inputs = torch.randn(2, len(ids), 8) + random.random() + np.random.rand() + self.data.position
            loss = (
                self.model(inputs, ids, torch.ones(2, 3, 16), text_drop_mask=torch.rand(2) < 0.5)
                .sample.square()
                .mean()
            )
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.schedule.step()
            update_average(self.average, self.model)
            self.data.position += 1
        return self

    def tensors(self):
        weights = [parameter.detach() for parameter in self.model.parameters()]
        moments = [value for state in self.optimizer.state.values() for value in state.values()]
        return [*weights, *self.average.shadow_params, *moments]


@pytest.mark.parametrize("has_muon", [False, True], ids=["adamw", "muon"])
def test_a_continued_run_ends_where_one_that_was_never_stopped_does(tmp_path, has_muon):
    uninterrupted = Run(has_muon=has_muon).train(6)
    save_checkpoint(Run(has_muon=has_muon).train(3).state, tmp_path, step=3)

    continued = Run(seed=1, has_muon=has_muon)
    # Frozen weights come from elsewhere and are not part of a checkpoint.
    continued.model.text_embedder.load_state_dict(uninterrupted.model.text_embedder.state_dict())
    assert continued.state.load(tmp_path / "checkpoint-3") == 3
    assert continued.data.position == 3
    continued.train(3)
    assert continued.schedule.get_last_lr() == uninterrupted.schedule.get_last_lr()
    for tensor, expected in zip(continued.tensors(), uninterrupted.tensors(), strict=True):
        assert torch.equal(tensor, expected)
    assert not torch.equal(Run(seed=1, has_muon=has_muon).train(6).tensors()[0], uninterrupted.tensors()[0])


def test_an_optimiser_that_has_made_no_step_is_as_it_was_after_saving_and_loading(tmp_path):
    """As that of a discriminator which comes in later."""
    uninterrupted, saved, continued = Run(), Run(), Run(seed=1)
    continued.model.text_embedder.load_state_dict(saved.model.text_embedder.state_dict())
    save_checkpoint(saved.state, tmp_path, step=0)
    continued.state.load(tmp_path / "checkpoint-0")
    expected = uninterrupted.train(2).tensors()
    for run in (continued, saved):
        torch.manual_seed(1)
    for run in (saved, continued):
        run.state.load(tmp_path / "checkpoint-0")
        for tensor, other in zip(run.train(2).tensors(), expected, strict=True):
            assert torch.equal(tensor, other)


@pytest.mark.parametrize("has_muon", [False, True], ids=["adamw", "muon"])
def test_a_run_of_another_optimiser_is_not_continued(tmp_path, has_muon):
    save_checkpoint(Run(has_muon=has_muon).train(1).state, tmp_path, step=1)
    with pytest.raises(UsageError, match="checkpoint-1 does not fit this run .* another `--optimizer`"):
        Run(has_muon=not has_muon).state.load(tmp_path / "checkpoint-1")


def test_the_configuration_of_a_model_lies_beside_its_weights(tmp_path):
    folder = save_checkpoint(Run().state, tmp_path, step=1)
    config = VideoARTransformer3DModel.load_config(folder, subfolder="transformer")
    assert config["num_layers"] == 1
    assert not list((folder / "transformer").glob("*.safetensors"))


def test_checkpoints_are_listed_by_step_and_nothing_else_is(tmp_path):
    for name in ("checkpoint-10", "checkpoint-9", "tmp-checkpoint-11", "checkpoint-latest", "logs"):
        (tmp_path / name).mkdir()
    assert list_checkpoints(tmp_path) == [(9, tmp_path / "checkpoint-9"), (10, tmp_path / "checkpoint-10")]
    assert list_checkpoints(tmp_path / "no_such_folder") == []


def test_old_checkpoints_are_pruned(tmp_path):
    run = Run()
    for step in (1, 2, 3, 10):
        save_checkpoint(run.state, tmp_path, step, checkpoints_total_limit=2)
    assert [step for step, _ in list_checkpoints(tmp_path)] == [3, 10]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-3"]


def test_a_run_that_dies_while_saving_leaves_the_older_checkpoint_whole(tmp_path):
    def die(folder):
        raise KeyboardInterrupt

    save_checkpoint(Run().train(1).state, tmp_path, step=1)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(Run(save_extra=die).train(2).state, tmp_path, step=2)
    assert (tmp_path / "tmp-checkpoint-2").exists()
    assert find_checkpoint(tmp_path, "latest") == tmp_path / "checkpoint-1"
    assert Run(seed=1).state.load(tmp_path / "checkpoint-1") == 1
    remove_unfinished_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path):
    run = Run()
    save_checkpoint(run.state, tmp_path, step=5)
    run.train(1)
    save_checkpoint(run.state, tmp_path, step=5)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-5"]
    loaded = Run(seed=1)
    loaded.state.load(tmp_path / "checkpoint-5")
    assert loaded.data.position == 1 and torch.equal(loaded.model.proj_out.weight, run.model.proj_out.weight)


def test_a_checkpoint_is_found_by_name_by_path_or_as_the_latest(tmp_path):
    assert find_checkpoint(tmp_path, None) is None and find_checkpoint(tmp_path, "latest") is None
    run = Run()
    for step in (9, 10):
        save_checkpoint(run.state, tmp_path, step)
    assert find_checkpoint(tmp_path, None) is None
    assert find_checkpoint(tmp_path, "latest") == tmp_path / "checkpoint-10"
    assert find_checkpoint(tmp_path, "checkpoint-9") == tmp_path / "checkpoint-9"
    assert find_checkpoint("elsewhere", str(tmp_path / "checkpoint-9")) == tmp_path / "checkpoint-9"


def test_a_checkpoint_that_does_not_exist_is_refused_with_those_that_do(tmp_path):
    save_checkpoint(Run().state, tmp_path, step=4)
    with pytest.raises(ValueError, match="`--resume_from_checkpoint` is 'checkpoint-5', .* In .*: checkpoint-4"):
        find_checkpoint(tmp_path, "checkpoint-5")
    with pytest.raises(ValueError, match="which is not a checkpoint. In .*: none"):
        find_checkpoint(tmp_path / "empty", "checkpoint-5")


# Values that are not finite, and disks that are full


@pytest.mark.parametrize("where", ["weight", "average", "moment"])
def test_a_checkpoint_with_a_value_that_is_not_finite_is_never_written(tmp_path, where):
    run = Run().train(1)
    save_checkpoint(run.state, tmp_path, step=1)
    tensor = {
        "weight": run.model.proj_out.weight,
        "average": run.average.shadow_params[0],
        "moment": run.optimizer.state[run.model.proj_out.weight]["exp_avg"],
    }[where]
    with torch.no_grad():
        tensor.flatten()[0] = float("nan")
    with pytest.raises(FloatingPointError, match="1 of .* tensors are not finite after step 2, so no checkpoint"):
        save_checkpoint(run.state, tmp_path, step=2)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


@pytest.mark.parametrize("limit", [2000, 20_000], ids=["in the weights", "later"])
def test_a_full_disk_names_folder_bytes_and_what_is_safe(tmp_path, limit):
    save_checkpoint(Run().train(1).state, tmp_path, step=1)

    def save():
        run = Run().train(2)
        # The system refuses to let a file grow beyond this, as a full disk does, in the middle of a write.
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(DiskFullError) as error:
            save_checkpoint(run.state, tmp_path, step=2)
        pattern = r"checkpoint-2 does not fit into .*: it needs more than [\d.]+ kB, .* free .*Safe: checkpoint-1 is whole.*Make room"
        assert re.search(pattern, str(error.value)) and str(tmp_path) in str(error.value)

    assert run_in_child(save) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]
    assert Run(seed=1).state.load(tmp_path / "checkpoint-1") == 1


def test_the_size_of_a_checkpoint_is_known_before_it_is_written(tmp_path):
    state = Run().train(1).state
    folder = save_checkpoint(state, tmp_path, step=1)
    size = sum(path.stat().st_size for path in folder.rglob("*.distcp"))
    assert state.num_bytes < size < 4 * state.num_bytes  # at this size headers are most of a file
    with pytest.raises(DiskFullError, match="The first checkpoint does not fit into .*: it needs more than 1e.15 GB"):
        check_room(tmp_path, 10**24, "The first checkpoint", "all")
