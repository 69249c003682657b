# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The small files that a saved model carries. That they load it, or say what to install, is in tests/test_hub_loading.py."""

import ast
import json
import logging

import pytest
import torch

from tests.infinitystar_runs import make_run_pipeline
from tests.tiny_components import make_tiny_pipeline, make_tiny_transformer, make_tiny_vae
from videoar_pipelines import VideoARImageToVideoPipeline, VideoARTransformer3DModel


@pytest.fixture(scope="module")
def pipe():
    return make_tiny_pipeline()


def code_files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))


def imported_names(path):
    """What a file imports, as (module, name)."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert all(isinstance(node, ast.ImportFrom) for node in nodes)
    return [(node.module, alias.name) for node in nodes for alias in node.names]


def test_the_files_are_small_and_import_one_class_of_the_package(pipe, tmp_path):
    VideoARImageToVideoPipeline.from_pipe(pipe).save_pretrained(tmp_path)
    expected = {
        "modular_blocks.py": "VideoARBlocks",
        "pipeline.py": "VideoARImageToVideoPipeline",
        "transformer/transformer_videoar.py": "VideoARTransformer3DModel",
        "vae/autoencoder_videoar.py": "AutoencoderVideoAR",
    }
    assert code_files(tmp_path) == list(expected)
    for name, class_name in expected.items():
        assert imported_names(tmp_path / name) == [("videoar_pipelines", class_name)]
        assert len((tmp_path / name).read_text()) < 1000


def test_infinitystar_carries_a_loader_and_no_blocks_of_another_model(tmp_path):
    make_run_pipeline().save_config(tmp_path)
    assert code_files(tmp_path) == ["pipeline.py"] and not (tmp_path / "modular_config.json").exists()
    assert imported_names(tmp_path / "pipeline.py") == [("videoar_pipelines", "InfinityStarPipeline")]
    assert json.loads((tmp_path / "model_index.json").read_text())["vae"] == ["diffusers", "AutoencoderInfinityStar"]


def test_the_configuration_of_a_model_points_to_the_file_beside_it(tmp_path):
    for model in (make_tiny_vae(), make_tiny_transformer()):
        folder = tmp_path / type(model).__name__
        model.save_pretrained(folder)
        module, name = json.loads((folder / "config.json").read_text())["auto_map"]["AutoModel"].split(".")
        assert imported_names(folder / f"{module}.py") == [("videoar_pipelines", name)]
        assert name == type(model).__name__


def test_the_pointer_is_no_argument_of_the_model_and_loading_does_not_warn_of_it(tmp_path, caplog):
    make_tiny_transformer().save_pretrained(tmp_path)
    diffusers_logger = logging.getLogger("diffusers")
    diffusers_logger.addHandler(caplog.handler)
    try:
        loaded = VideoARTransformer3DModel.from_pretrained(tmp_path)
    finally:
        diffusers_logger.removeHandler(caplog.handler)
    assert "auto_map" not in loaded.config and "auto_map" not in caplog.text


class UsersTransformer(VideoARTransformer3DModel):
    """A class that is in no package."""


def test_a_class_of_the_users_gets_no_pointer_to_a_file_that_is_not_there(tmp_path):
    UsersTransformer.from_config(make_tiny_transformer().config).save_pretrained(tmp_path)
    assert "auto_map" not in json.loads((tmp_path / "config.json").read_text()) and code_files(tmp_path) == []
    assert UsersTransformer.from_pretrained(tmp_path).config.num_layers == 2


def test_a_second_save_changes_nothing_but_the_weights(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = make_tiny_pipeline(seed=1)
    other.save_pretrained(tmp_path)
    changed = {path.suffix for path, content in before.items() if path.read_bytes() != content}
    assert changed == {".safetensors"}
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before.keys()


def test_a_repository_is_named_only_where_something_is_uploaded(pipe, tmp_path):
    with pytest.raises(ValueError, match="`repo_id` is 'user/name', but nothing is uploaded. Pass `push_to_hub=True`"):
        pipe.save_pretrained(tmp_path, repo_id="user/name")
    with pytest.raises(TypeError, match="unexpected keyword argument 'repo'"):
        pipe.save_pretrained(tmp_path, repo="user/name")
    assert not list(tmp_path.iterdir())


def test_diffusers_finds_our_classes_and_misses_others_as_before():
    import diffusers

    assert diffusers.VideoARTransformer3DModel is VideoARTransformer3DModel
    assert isinstance(make_tiny_transformer(), diffusers.ModelMixin) and issubclass(
        VideoARTransformer3DModel, torch.nn.Module
    )
    for name in ("VideoARUnknown", "FrameSampler"):
        with pytest.raises(AttributeError, match=f"diffusers'? has no attribute '?{name}"):
            getattr(diffusers, name)
