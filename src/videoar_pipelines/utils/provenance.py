# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""What made a result: the version of the code, and hashes of models. Results carry both, so that others can get them again."""

import hashlib
import json
import subprocess
from pathlib import Path

import torch
from diffusers import DiffusionPipeline


def code_version() -> str:
    """
    The commit of this package where it runs from a git checkout, followed by `"+changes"` if tracked files differ from it; else
    the version of the package.
    """
    package = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=package, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):  # no git, or no checkout
            return None
        return done.stdout.strip()

    # An installed package may lie in an ignored folder of another repository.
    commit = git("rev-parse", "HEAD") if git("ls-files", "__init__.py") else None
    if commit is None:
        from .. import __version__

        return __version__
    return commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")


def fingerprint_of(model: torch.nn.Module, leave_out: tuple[str, ...] = ()) -> str:
    """
    A hash of a model's weights, and for a diffusers model of its configuration. Weights are rounded to bfloat16 for it, so a
    model that was loaded in bfloat16 is known for the one that it was rounded from.

    Args:
        model (`torch.nn.Module`): A model of diffusers or transformers.
        leave_out (`tuple[str, ...]`, *optional*):
            Weights and settings whose names begin with one of these do not count: with `("decoder",)`, a tokenizer is known for
            one that makes the same tokens.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        if name.startswith(leave_out):
            continue
        digest.update(f"{name} {tuple(weight.shape)} ".encode())
        rounded = weight.detach().cpu().to(torch.bfloat16).contiguous()
        digest.update(rounded.view(torch.int16).numpy().data)
    if isinstance(model.config, dict):
        config = {key: value for key, value in model.config.items() if not key.startswith(("_", *leave_out))}
        digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def fingerprint_of_pipeline(pipeline: DiffusionPipeline) -> str:
    """A hash of the models of a pipeline, see [`fingerprint_of`], and of what its scheduler is set to for sampling."""
    digest = hashlib.sha256()
    settings = {
        name: value
        for name, value in pipeline.scheduler.config.items()
        if not name.startswith(("_", "corruption_")) and name != "error_inheritance"  # those are for training
    }
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for name, component in sorted(pipeline.components.items()):
        if isinstance(component, torch.nn.Module):
            digest.update(f"{name} {fingerprint_of(component)} ".encode())
    return digest.hexdigest()
