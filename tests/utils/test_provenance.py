# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import re
import subprocess

import torch

import videoar_pipelines
from tests.tiny_components import make_tiny_pipeline
from videoar_pipelines.utils import provenance
from videoar_pipelines.utils.provenance import code_version, fingerprint_of_pipeline


def test_a_checkout_is_named_by_its_commit_and_a_copy_by_its_version(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    module = tmp_path / "src" / "package" / "utils" / "provenance.py"
    module.parent.mkdir(parents=True)
    init = module.parents[1] / "__init__.py"
    init.touch()
    monkeypatch.setattr(provenance, "__file__", str(module))
    assert code_version() == videoar_pipelines.__version__  # no repository
    git("init", "-q")
    assert code_version() == videoar_pipelines.__version__  # a repository that does not hold the package
    git("add", ".")
    git("commit", "-qm", "First")
    commit = git("rev-parse", "HEAD").strip()
    assert re.fullmatch("[0-9a-f]{40}", commit) and code_version() == commit
    (tmp_path / "new.txt").touch()
    assert code_version() == commit
    init.write_text("changed")
    assert code_version() == f"{commit}+changes"


def test_pipelines_differ_by_their_weights_and_not_by_their_precision():
    first, same, other = (make_tiny_pipeline(seed) for seed in (0, 0, 1))
    assert fingerprint_of_pipeline(first) == fingerprint_of_pipeline(same) != fingerprint_of_pipeline(other)
    same.transformer.to(torch.bfloat16)
    assert fingerprint_of_pipeline(first) == fingerprint_of_pipeline(same)


def test_pipelines_differ_by_what_sampling_is_set_to_and_not_by_what_training_is():
    pipelines = [make_tiny_pipeline() for _ in range(3)]
    pipelines[1].scheduler.register_to_config(guidance_end=0.3)
    pipelines[2].scheduler.register_to_config(corruption_max=0.9)
    first, sampling, training = map(fingerprint_of_pipeline, pipelines)
    assert first == training != sampling
