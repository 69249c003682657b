# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
A pipeline is loaded from the Hub as a user does it: in a fresh process, by its id, over HTTP. The Hub is played by a server on
this machine. Loading from a folder takes another path through diffusers and cannot show that the registration in the root of the
package works.
"""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.loopback_hub import serving
from tests.tiny_components import make_tiny_pipeline


REPOSITORY = "videoar-tests/tiny"
PROMPTS = ["a red circle moves to the right", "a"]

LOAD_AND_SAVE_AGAIN = """
import sys

from videoar_pipelines import VideoARPipeline

VideoARPipeline.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])
"""

# The package is installed, and nothing imports it but what the repository carries; from then on it is imported.
TAKE_EVERY_ROAD = """
import sys

import torch
from diffusers import AutoModel, DiffusionPipeline, ModularPipeline

prompts, output = sys.argv[3:], sys.argv[2]


def sample(pipe, **arguments):
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]
    video = pipe(prompt=prompts, generator=generators, num_frames=13, output_type="pt", **arguments)
    return video if arguments else video.frames


videos, classes = {}, {}
assert "videoar_pipelines" not in sys.modules
for road, source in (("Hub", sys.argv[1]), ("folder", sys.argv[2])):
    options = {"trust_remote_code": True}
    by_file = DiffusionPipeline.from_pretrained(source, custom_pipeline="pipeline", **options)
    videos[f"{road}, pipeline.py"] = sample(by_file)
    videos[f"{road}, imported"] = sample(DiffusionPipeline.from_pretrained(source))
    blocks = ModularPipeline.from_pretrained(source, **options)
    blocks.load_components()
    videos[f"{road}, blocks"] = sample(blocks, output="videos")
    model = AutoModel.from_pretrained(source, subfolder="transformer")
    videos[f"{road}, AutoModel"] = sample(type(by_file)(**(by_file.components | {"transformer": model})))
model = AutoModel.from_pretrained(f"{output}/transformer", **options)
videos["component, AutoModel"] = sample(type(by_file)(**(by_file.components | {"transformer": model})))
torch.save(videos, f"{output}/videos.pt")

by_file.push_to_hub("videoar-tests/pushed")
by_file.vae.push_to_hub("videoar-tests/pushed-vae")
by_file.scheduler.push_to_hub("videoar-tests/pushed-scheduler")
model = AutoModel.from_pretrained("videoar-tests/pushed-vae", **options)
assert type(model) is type(by_file.vae)

by_file.save_pretrained(f"{output}/own", push_to_hub=True, repo_id="videoar-tests/own")
with open(f"{output}/own/README.md", "w") as file:
    file.write("My own words.")
by_file.save_pretrained(f"{output}/own", push_to_hub=True, repo_id="videoar-tests/own")
by_file.push_to_hub("videoar-tests/own")
"""

# diffusers is there, the package cannot be imported.
LOAD_WITHOUT_THE_PACKAGE = """
import json
import sys
import traceback


class WithoutThePackage:
    '''A finder of modules that finds all but the package, as where it is not installed.'''

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *args):
        return None if name.split(".")[0] == "videoar_pipelines" else self.finder.find_spec(name, *args)

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = map(WithoutThePackage, sys.meta_path)

from diffusers import AutoModel, DiffusionPipeline, ModularPipeline

repository, folder = sys.argv[1:]
trust = {"trust_remote_code": True}
calls = {
    "pipeline, folder": lambda: DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, **trust),
    "pipeline, Hub": lambda: DiffusionPipeline.from_pretrained(repository, custom_pipeline=repository, **trust),
    "pipeline.py, folder": lambda: DiffusionPipeline.from_pretrained(folder, custom_pipeline="pipeline", **trust),
    "pipeline.py, Hub": lambda: DiffusionPipeline.from_pretrained(repository, custom_pipeline="pipeline", **trust),
    "blocks, folder": lambda: ModularPipeline.from_pretrained(folder, **trust),
    "blocks, Hub": lambda: ModularPipeline.from_pretrained(repository, **trust),
    "transformer": lambda: AutoModel.from_pretrained(f"{folder}/transformer", **trust),
    "vae": lambda: AutoModel.from_pretrained(f"{folder}/vae", **trust),
    "no trust, folder": lambda: DiffusionPipeline.from_pretrained(folder),
    "no trust, Hub": lambda: DiffusionPipeline.from_pretrained(repository),
}
errors = {}
for name, call in calls.items():
    try:
        call()
    except Exception as error:
        errors[name] = "".join(traceback.format_exception(error)).strip()
print(json.dumps(errors))
"""


@pytest.fixture(scope="module")
def pipe():
    return make_tiny_pipeline()


@pytest.fixture
def saved_pipeline(pipe, tmp_path):
    folder = tmp_path / "hub" / REPOSITORY
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture
def hub(saved_pipeline, tmp_path):
    with serving(tmp_path / "hub") as server:
        yield server


def run(program, *arguments, hub, cache, **more_environment):
    finished = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=hub.environment(cache) | more_environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, f"{finished.stderr[-4000:]}\n{hub.requests}"
    return finished.stdout


def assert_same_pipeline(folder, expected_folder):
    def read_index(folder):
        index = json.loads((folder / "model_index.json").read_text())
        return {name: value for name, value in index.items() if name != "_name_or_path"}

    assert read_index(folder) == read_index(expected_folder)
    weight_names = [path.relative_to(expected_folder) for path in expected_folder.rglob("*.safetensors")]
    assert len(weight_names) == 3, "the text encoder, the transformer and the tokenizer of videos have weights"
    for name in weight_names:
        weights, expected_weights = load_file(folder / name), load_file(expected_folder / name)
        assert weights.keys() == expected_weights.keys()
        assert all(weights[key].equal(expected_weights[key]) for key in weights)


def test_saved_components_are_named_as_classes_of_diffusers_and_not_by_files(saved_pipeline):
    index = json.loads((saved_pipeline / "model_index.json").read_text())
    assert index["_class_name"] == "VideoARPipeline"
    assert index["vae"] == ["diffusers", "AutoencoderVideoAR"]
    assert index["transformer"] == ["diffusers", "VideoARTransformer3DModel"]
    assert index["scheduler"] == ["diffusers", "VideoARScheduler"]


def test_a_pipeline_loads_from_the_hub_and_then_without_a_network(saved_pipeline, hub, tmp_path):
    run(LOAD_AND_SAVE_AGAIN, REPOSITORY, tmp_path / "from_hub", hub=hub, cache=tmp_path / "cache")
    assert_same_pipeline(tmp_path / "from_hub", saved_pipeline)
    assert any(path.endswith(".safetensors") for _, path, _ in hub.requests)

    hub.requests.clear()
    arguments = {"hub": hub, "cache": tmp_path / "cache", "HF_HUB_OFFLINE": "1"}
    run(LOAD_AND_SAVE_AGAIN, REPOSITORY, tmp_path / "from_cache", **arguments)
    assert_same_pipeline(tmp_path / "from_cache", saved_pipeline)
    assert hub.requests == []


def test_every_door_of_diffusers_gives_the_same_videos_and_a_push_carries_our_card(
    pipe, saved_pipeline, hub, tmp_path
):
    folder = tmp_path / "folder"
    pipe.save_pretrained(folder)
    run(TAKE_EVERY_ROAD, REPOSITORY, folder, *PROMPTS, hub=hub, cache=tmp_path / "cache")
    videos = torch.load(folder / "videos.pt")
    assert len(videos) == 9
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(PROMPTS))]
    expected = pipe(PROMPTS, generator=generators, num_frames=13, output_type="pt").frames
    for road, video in videos.items():
        assert torch.equal(video, expected), road

    for name in ("pushed", "pushed-vae", "pushed-scheduler"):
        card = (tmp_path / "hub/videoar-tests" / name / "README.md").read_text()
        assert f'from_pretrained("videoar-tests/{name}"' in card and f"# {name}\n" in card
        assert "pip install videoar_pipelines" in card and "automatically generated" not in card
    assert_same_pipeline(tmp_path / "hub/videoar-tests/pushed", saved_pipeline)
    own = "My own words."
    assert own in (tmp_path / "hub/videoar-tests/own/README.md").read_text()
    assert (folder / "own/README.md").read_text() == own


def test_without_the_package_every_door_ends_in_a_line_that_says_what_to_install(saved_pipeline, hub, tmp_path):
    output = run(LOAD_WITHOUT_THE_PACKAGE, REPOSITORY, saved_pipeline, hub=hub, cache=tmp_path / "cache")
    errors = json.loads(output.splitlines()[-1])
    assert len(errors) == 10
    for name, error in errors.items():
        last_line = error.splitlines()[-1]
        if name.startswith("no trust"):  # nothing of the repository is read then; diffusers names the class
            assert last_line == "AttributeError: module diffusers has no attribute VideoARPipeline", name
        else:
            expected = "This model needs the package videoar_pipelines: pip install videoar_pipelines"
            assert last_line == f"ImportError: {expected}", (name, error)
            assert "During handling" not in error, name
