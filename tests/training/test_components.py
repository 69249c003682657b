# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import argparse
import json

import pytest

from tests.tiny_components import make_tiny_transformer
from videoar_pipelines import AutoencoderVideoAR, VideoARScheduler, VideoARTransformer3DModel
from videoar_pipelines.training.components import config_of, transformer_config


@pytest.mark.parametrize(
    ("component", "key", "nearest"),
    [
        (VideoARTransformer3DModel, "num_layer", "num_layers"),
        (AutoencoderVideoAR, "blok_out_channels", "block_out_channels"),
        (VideoARScheduler, "guidance_scal", "guidance_scale"),
    ],
)
def test_a_key_that_the_component_does_not_know_is_refused_with_the_nearest_one(component, key, nearest):
    with pytest.raises(argparse.ArgumentTypeError, match=f"`{component.__name__}` has no '{key}'.*{nearest}"):
        config_of(component)(json.dumps({key: 2}))


def test_a_key_that_is_near_none_is_refused_with_all_that_there_are():
    with pytest.raises(argparse.ArgumentTypeError, match="has no 'zzz'. It has attention_head_dim, frame_conditions"):
        transformer_config('{"zzz": 1}')


def test_a_saved_configuration_is_understood(tmp_path):
    VideoARScheduler(top_p=0.9).save_config(tmp_path)
    config = config_of(VideoARScheduler)(str(tmp_path / "scheduler_config.json"))
    assert VideoARScheduler.from_config(config).config.top_p == 0.9

    make_tiny_transformer().save_config(tmp_path)
    config = transformer_config(str(tmp_path / "config.json"))
    assert VideoARTransformer3DModel(**config).config.num_layers == 2


def test_a_mistake_in_a_transformers_configuration_names_the_sizes_too():
    with pytest.raises(argparse.ArgumentTypeError, match="'num_layer'.*A size, L, XL, 4B"):
        transformer_config('{"num_layer": 2}')
