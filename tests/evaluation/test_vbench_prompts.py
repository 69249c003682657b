# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from videoar_pipelines.evaluation.vbench import VBENCH_DIMENSIONS
from videoar_pipelines.evaluation.vbench_prompts import SHARED_LISTS, VBenchPrompt, prompts_for, read_vbench_prompts


SUBJECT = list(SHARED_LISTS["subject_consistency"])
ENTRIES = [
    {"prompt_en": "a still red square", "dimension": ["temporal_flickering"]},
    {"prompt_en": "a blue circle moves up", "dimension": SUBJECT},
    {"prompt_en": "a façade, oil painting", "dimension": ["appearance_style"], "auxiliary_info": {"style": "oil"}},
    {"prompt_en": "a blue circle moves up", "dimension": ["color"]},
]


@pytest.fixture
def full_info(tmp_path):
    path = tmp_path / "VBench" / "vbench" / "VBench_full_info.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(ENTRIES))
    return path


def test_every_form_of_the_list_is_read_alike(full_info, tmp_path):
    expected = read_vbench_prompts(full_info)
    assert [prompt.text for prompt in expected] == [entry["prompt_en"] for entry in ENTRIES[:3]]
    assert expected[1].dimensions == (*SUBJECT, "color")
    assert read_vbench_prompts(tmp_path / "VBench") == expected

    table = tmp_path / "train.jsonl"
    table.write_text("\n".join(map(json.dumps, ENTRIES)))
    assert read_vbench_prompts(table) == expected

    folder = tmp_path / "clone" / "prompts" / "prompts_per_dimension"
    folder.mkdir(parents=True)
    for name, text in (("temporal_flickering", 0), ("subject_consistency", 1), ("appearance_style", 2), ("color", 3)):
        (folder / f"{name}.txt").write_text(ENTRIES[text]["prompt_en"] + "\n")
    from_folder = {prompt.text: set(prompt.dimensions) for prompt in read_vbench_prompts(tmp_path / "clone")}
    assert from_folder == {prompt.text: set(prompt.dimensions) for prompt in expected}


def test_parquet_is_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"prompt_en": entry["prompt_en"], "dimension": entry["dimension"]} for entry in ENTRIES]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "train.parquet")
    assert len(read_vbench_prompts(tmp_path / "train.parquet")) == 3


def test_names_and_numbers_of_videos_are_those_that_the_scorer_looks_for(full_info):
    still, blue, facade = read_vbench_prompts(full_info)
    assert (still.num_samples, blue.num_samples) == (25, 5)
    assert facade.file_name(4) == "a façade, oil painting-4.mp4"


def test_prompts_are_chosen_by_dimension(full_info):
    prompts = read_vbench_prompts(full_info)
    assert prompts_for(prompts, ["color", "dynamic_degree"]) == [prompts[1]]
    with pytest.raises(ValueError, match="colour.*VBench's are"):
        prompts_for(prompts, ["colour"])


def test_shared_lists_agree_with_the_numbers_of_prompts():
    counts = {dimension.name: dimension.num_prompts for dimension in VBENCH_DIMENSIONS}
    for name, dimensions in SHARED_LISTS.items():
        assert {counts[dimension] for dimension in dimensions} == {counts[name]}
    shared = {dimension for name, dimensions in SHARED_LISTS.items() for dimension in dimensions if dimension != name}
    assert sum(count for name, count in counts.items() if name not in shared) == 946


# Rewritten prompts


def test_line_n_rewrites_entry_n(full_info, tmp_path):
    lines = tmp_path / "all_dimension_longer.txt"
    lines.write_text("a long still square\na long circle\na long façade\nnot used: the first line counts\n")
    prompts = read_vbench_prompts(full_info, lines)
    assert [prompt.rewritten for prompt in prompts] == ["a long still square", "a long circle", "a long façade"]
    assert prompts[0].file_name(0) == "a still red square-0.mp4"

    table = tmp_path / "rewritten.json"
    table.write_text(json.dumps({prompt.text: prompt.rewritten for prompt in prompts}))
    assert read_vbench_prompts(full_info, table) == prompts


def test_rewritten_prompts_that_do_not_fit_are_refused(full_info, tmp_path):
    lines = tmp_path / "longer.txt"
    lines.write_text("one\ntwo\n")
    with pytest.raises(ValueError, match="2 lines for 4 entries"):
        read_vbench_prompts(full_info, lines)
    table = tmp_path / "rewritten.json"
    table.write_text(json.dumps({"a still red square": "a long one"}))
    with pytest.raises(ValueError, match="nothing for 3 prompts, such as 'a blue circle"):
        read_vbench_prompts(full_info, table)
    (tmp_path / "color.txt").write_text("a red square\n")
    with pytest.raises(ValueError, match="in the order of VBench_full_info.json"):
        read_vbench_prompts(tmp_path, lines)


# Lists that cannot be used


@pytest.mark.parametrize("name", ["missing.json", "all_dimension.txt", "."])
def test_what_is_no_list_is_refused(tmp_path, name):
    (tmp_path / "all_dimension.txt").write_text("a red square\n")
    with pytest.raises(ValueError, match="no list of VBench's prompts.*github.com/Vchitect/VBench"):
        read_vbench_prompts(tmp_path / name)


@pytest.mark.parametrize(
    "entry", [{"prompt_en": "a"}, {"dimension": ["color"]}, {"prompt_en": "a", "dimension": []}, "a"]
)
def test_malformed_entries_are_refused(tmp_path, entry):
    path = tmp_path / "list.json"
    path.write_text(json.dumps([entry]))
    with pytest.raises(ValueError, match="prompt_en.*dimension"):
        read_vbench_prompts(path)


@pytest.mark.parametrize("text", ["a red/blue square", "a very long one " * 20])
def test_a_prompt_that_cannot_name_a_file_is_refused(tmp_path, text):
    path = tmp_path / "list.json"
    path.write_text(json.dumps([{"prompt_en": text, "dimension": ["color"]}]))
    with pytest.raises(ValueError, match="cannot be part of a file name.*leave it out"):
        read_vbench_prompts(path)


def test_a_prompt_takes_as_many_bytes_as_file_names_have(tmp_path):
    path = tmp_path / "list.json"
    path.write_text(json.dumps([{"prompt_en": "é" * 124, "dimension": ["color"]}]))
    [prompt] = read_vbench_prompts(path)
    (tmp_path / prompt.file_name(24)).touch()
    assert prompt == VBenchPrompt("é" * 124, ("color",))


def test_dimensions_of_another_benchmark_are_refused(tmp_path):
    path = tmp_path / "list.json"
    path.write_text(json.dumps([{"prompt_en": "a red square", "dimension": ["Camera_Motion"]}]))
    with pytest.raises(ValueError, match="Camera_Motion"):
        read_vbench_prompts(path)
