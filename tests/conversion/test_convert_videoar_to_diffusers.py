# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from conversion.convert_videoar_to_diffusers import ConversionError, main
from tests.tiny_components import make_tiny_transformer, make_tiny_vae
from videoar_pipelines import AutoencoderVideoAR, VideoARTransformer3DModel


ROOT = Path(__file__).parents[2]
README = (ROOT / "conversion" / "README.md").read_text()
# The table of the README, for the transformer.
KEY_MAP = json.loads(re.search(r"```json\n(.*?)```", README, re.DOTALL)[1])

VAE_KEY_MAP = {
    "rows": [
        {"pattern": r"(?P<net>enc|dec)\.(?P<rest>.*)\.w", "name": "{net}oder.{rest}.weight"},
        {"pattern": r"(?P<net>enc|dec)\.(?P<rest>.*)\.b", "name": "{net}oder.{rest}.bias"},
    ]
}


def plain_config(model) -> dict:
    """The arguments of its class, as JSON knows them."""
    return json.loads(json.dumps({name: value for name, value in model.config.items() if not name.startswith("_")}))


@pytest.fixture(scope="module")
def transformer():
    torch.manual_seed(0)
    transformer = make_tiny_transformer(num_key_value_heads=1)
    for parameter in transformer.parameters():  # norms too, so that two of them cannot be confused
        parameter.data.normal_()
    return transformer


def public_transformer(transformer) -> dict[str, torch.Tensor]:
    """Its tensors under the invented names of the README's table, keys and values fused with the queries."""
    ours = transformer.state_dict()
    public = {
        "pos_start": ours["start_embedding"],
        "cfg_uncond": ours["null_text"],
        "lvl_embed.weight": ours["scale_embedding.weight"],
        "norm.weight": ours["norm_out.weight"],
        "rope.freqs": torch.arange(8),
    }
    for kind in ("weight", "bias"):
        public[f"word_embed.{kind}"] = ours[f"map_embedder.{kind}"]
        public[f"text_proj.fc1.{kind}"] = ours[f"text_embedder.linear_1.{kind}"]
        public[f"text_proj.fc2.{kind}"] = ours[f"text_embedder.linear_2.{kind}"]
        public[f"head.{kind}"] = ours[f"proj_out.{kind}"]
    for layer in range(2):
        block, name = f"blocks.{layer}", f"layers.{layer}"
        public[f"{name}.attn.qkv.weight"] = torch.cat([ours[f"{block}.attn.to_{x}.weight"] for x in "qkv"])
        public[f"{name}.attn.q_norm.weight"] = ours[f"{block}.attn.norm_q.weight"]
        public[f"{name}.attn.k_norm.weight"] = ours[f"{block}.attn.norm_k.weight"]
        public[f"{name}.attn.proj.weight"] = ours[f"{block}.attn.to_out.0.weight"]
        public[f"{name}.ln1.weight"] = ours[f"{block}.norm1.weight"]
        public[f"{name}.ln2.weight"] = ours[f"{block}.norm2.weight"]
        value, gate = ours[f"{block}.ff.net.0.proj.weight"].chunk(2)
        public[f"{name}.mlp.gate.weight"], public[f"{name}.mlp.up.weight"] = gate.clone(), value.clone()
        public[f"{name}.mlp.down.weight"] = ours[f"{block}.ff.net.2.weight"]
    return public


def key_map_with(*rows: dict, **changes) -> dict:
    """The README's table with two heads of queries for one of keys, some rows replaced by pattern or added."""
    replaced = {row["pattern"]: row for row in KEY_MAP["rows"]}
    qkv = next(row for pattern, row in replaced.items() if "qkv" in pattern)
    replaced[qkv["pattern"]] = qkv | {"split": [2, 1, 1]}
    replaced |= {row["pattern"]: row for row in rows}
    return {**KEY_MAP, "rows": list(replaced.values()), **changes}


def convert(folder: Path, component: str, file: bytes, key_map: object, config: dict) -> Path:
    """The folder that the conversion writes; its inputs lie beside it."""
    paths = {flag: folder / flag for flag in ("checkpoint_path", "key_map", "config", "output_path")}
    paths["checkpoint_path"].write_bytes(file)
    paths["key_map"].write_text(json.dumps(key_map))
    paths["config"].write_text(json.dumps(config))
    main(["--component", component, *(str(word) for flag, path in paths.items() for word in (f"--{flag}", path))])
    return paths["output_path"]


def pth(checkpoint: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


def assert_equal_models(converted, expected) -> None:
    tensors, others = converted.state_dict(), expected.state_dict()
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in others)
    assert plain_config(converted) == plain_config(expected)


# 1. Files that fit


@pytest.mark.parametrize(
    "make_file",
    [
        save,
        pth,
        lambda tensors: pth({"transformer": tensors, "step": 3}),
        lambda tensors: pth({"trainer": {"ema": tensors}}),
    ],
    ids=["safetensors", "pth", "transformer", "trainer"],
)
def test_a_transformer_under_other_names_is_the_same_model(make_file, transformer, tmp_path):
    file = make_file(public_transformer(transformer))
    path = convert(tmp_path, "transformer", file, key_map_with(), plain_config(transformer))
    assert_equal_models(VideoARTransformer3DModel.from_pretrained(path), transformer)


def test_a_gate_fused_in_front_of_its_value_changes_places(transformer, tmp_path):
    public = public_transformer(transformer)
    for layer in range(2):
        gate, value = (public.pop(f"layers.{layer}.mlp.{name}.weight") for name in ("gate", "up"))
        public[f"layers.{layer}.mlp.gate_up.weight"] = torch.cat([gate, value])
    name = "blocks.{i}.ff.net.0.proj.weight"
    row = {"pattern": r"layers\.(?P<i>\d+)\.mlp\.gate_up\.weight", "name": [f"{name}#1", f"{name}#0"]}
    path = convert(tmp_path, "transformer", save(public), key_map_with(row), plain_config(transformer))
    assert_equal_models(VideoARTransformer3DModel.from_pretrained(path), transformer)


def test_adjacent_rotary_pairs_become_halves(transformer, tmp_path):
    public = public_transformer(transformer)
    # Of the rows of every head, ours of pair i are i and i + 8; adjacent ones are 2i and 2i + 1.
    adjacent = [channel for pair in range(8) for channel in (pair, pair + 8)]
    for layer in range(2):
        qkv = public[f"layers.{layer}.attn.qkv.weight"]
        rows = [head * 16 + channel for head in range(3) for channel in adjacent]  # two heads of queries, one of keys
        public[f"layers.{layer}.attn.qkv.weight"] = qkv[rows + list(range(48, 64))]
        for norm in ("q_norm", "k_norm"):
            public[f"layers.{layer}.attn.{norm}.weight"] = public[f"layers.{layer}.attn.{norm}.weight"][adjacent]
    key_map = key_map_with(rotary_pairs="adjacent")
    path = convert(tmp_path, "transformer", save(public), key_map, plain_config(transformer))
    assert_equal_models(VideoARTransformer3DModel.from_pretrained(path), transformer)


def test_a_tokenizer_under_other_names_is_the_same_model(tmp_path):
    vae = make_tiny_vae()
    public = {
        name.replace("oder.", ".", 1).replace("weight", "w").replace("bias", "b"): tensor
        for name, tensor in vae.state_dict().items()
    }
    path = convert(tmp_path, "vae", pth({"vae": public}), VAE_KEY_MAP, plain_config(vae))
    assert_equal_models(AutoencoderVideoAR.from_pretrained(path), vae)


def test_the_result_keeps_the_dtype_of_the_file(transformer, tmp_path):
    public = {
        name: tensor.bfloat16() if tensor.is_floating_point() else tensor
        for name, tensor in public_transformer(transformer).items()
    }
    path = convert(tmp_path, "transformer", save(public), key_map_with(), plain_config(transformer))
    converted = VideoARTransformer3DModel.from_pretrained(path, torch_dtype=torch.bfloat16)
    assert torch.equal(converted.proj_out.weight, transformer.proj_out.weight.bfloat16())
    assert 2 * converted.num_parameters() < (path / "diffusion_pytorch_model.safetensors").stat().st_size
    assert (path / "diffusion_pytorch_model.safetensors").stat().st_size < 3 * converted.num_parameters()


# 2. What does not fit


class RunsCode:
    def __reduce__(self):
        return os.system, ("exit 1",)


HEAD = r"head\.(?P<kind>weight|bias)"
# What replaces or adds tensors (`None` removes one), what replaces or adds rows of the table, and the error.
UNFIT = {
    "missing tensor": ({"norm.weight": None}, [], r"lacks 1 tensor\(s\): norm_out.weight \(32,\)"),
    "extra tensor": ({"ema_decay": torch.zeros(2, 3)}, [], r"has 1 tensor\(s\): ema_decay \(2, 3\) that no row"),
    "extra block": (
        {"layers.2.ln1.weight": torch.zeros(32)},
        [],
        r"has 1 tensor\(s\): blocks.2.norm1.weight \(32,\) that this model does not have",
    ),
    "wrong shape": (
        {"head.weight": torch.zeros(9, 32)},
        [],
        r"another shape for 1 tensor\(s\): proj_out.weight \(9, 32\) instead of \(8, 32\)",
    ),
    "no shares": ({"layers.0.attn.qkv.weight": torch.zeros(63, 32)}, [], r"\(63, 32\) has no rows for the shares"),
    "missing part": ({"layers.0.mlp.up.weight": None}, [], r"proj.weight has the parts \['1'\] instead of \['0'\]"),
    "parts of other widths": ({"layers.0.mlp.up.weight": torch.zeros(48, 31)}, [], "parts of .* differ in shape"),
    "integers": ({"norm.weight": torch.zeros(32, dtype=torch.int8)}, [], r"norm.weight \(32,\) that no row"),
    "not a tensor": ({"norm.weight": "ones"}, [], "norm.weight of type str"),
    "two keys, one name": (
        {"final_norm.weight": torch.zeros(32)},
        [{"pattern": r"final_norm\.weight", "name": "norm_out.weight"}],
        "names norm_out.weight twice: for norm.weight and for final_norm.weight",
    ),
    "whole and part": (
        {"final_norm.weight": torch.zeros(32)},
        [{"pattern": r"final_norm\.weight", "name": "norm_out.weight#0"}],
        "norm_out.weight has the parts",
    ),
    "one key, two rows": ({}, [{"pattern": "head.*", "name": "null_text"}], "knows head.* more than once"),
    "unknown group": (
        {},
        [{"pattern": HEAD, "name": "proj_out.{sort}"}],
        "a group that its pattern lacks; it has kind",
    ),
    "no expression": ({}, [{"pattern": "head(", "name": "proj_out"}], r"'head\(' is no regular expression"),
    "a number for a name": ({}, [{"pattern": HEAD, "name": 3}], "must have a `pattern`, a `name`"),
    "no name": ({}, [{"pattern": HEAD}], "must have a `pattern`, a `name`"),
    "unknown field": ({}, [{"pattern": HEAD, "name": "a", "cat": 1}], "must have a `pattern`, a `name`"),
    "shares without names": ({}, [{"pattern": HEAD, "name": ["a", "b"], "split": [1]}], "one whole number above 0"),
}


def assert_refused(folder: Path, message: str, *inputs) -> None:
    with pytest.raises(ConversionError, match=message) as raised:
        convert(folder, *inputs)
    assert "\n" not in str(raised.value)
    assert {path.name for path in folder.iterdir()} == {"checkpoint_path", "key_map", "config"}


@pytest.mark.parametrize("kind", UNFIT)
def test_what_does_not_fit_gives_its_own_line_and_no_folder(kind, transformer, tmp_path):
    changes, rows, message = UNFIT[kind]
    tensors = {**public_transformer(transformer), **changes}
    file = pth({key: tensor for key, tensor in tensors.items() if tensor is not None})
    assert_refused(tmp_path, message, "transformer", file, key_map_with(*rows), plain_config(transformer))


@pytest.mark.parametrize(
    ("make_file", "message"),
    [
        (lambda tensors: save(tensors)[:9000], "truncated or damaged"),
        (lambda tensors: pth(tensors)[:9000], "truncated or damaged"),
        (lambda tensors: b"<!DOCTYPE html><html>Not found</html>", "is a web page"),
        (lambda tensors: b"version https://git-lfs.github.com/spec/v1", "is not a PyTorch checkpoint, nor one of"),
        (lambda tensors: pth({"ema": tensors, "args": RunsCode()}), "pickled code"),
        (lambda tensors: pth({"optimizer": {"step": tensors}}), "no transformer: .* none among optimizer"),
    ],
    ids=["truncated safetensors", "truncated pth", "web page", "text", "pickled code", "another model"],
)
def test_a_broken_file_gives_its_own_line_and_no_folder(make_file, message, transformer, tmp_path):
    file = make_file(public_transformer(transformer))
    assert_refused(tmp_path, message, "transformer", file, key_map_with(), plain_config(transformer))


@pytest.mark.parametrize(
    ("key_map", "config", "message"),
    [
        ([], {}, "holds a list and not an object"),
        ({"table": []}, {}, r"must hold a list `rows`.* it holds \['table'\]"),
        ({"rows": [], "rotary_pairs": "both"}, {}, "`rotary_pairs` in .* is 'both'"),
        ({"rows": [], "rotary_pairs": "adjacent"}, {}, "is of the transformer alone"),
        ({"rows": []}, {"width": 3}, "makes no AutoencoderVideoAR: .*'width'"),
    ],
    ids=["list", "no rows", "unknown pairs", "pairs of the vae", "unknown argument"],
)
def test_a_table_or_configuration_in_error_gives_its_own_line_and_no_folder(key_map, config, message, tmp_path):
    assert_refused(tmp_path, message, "vae", b"", key_map, config)


# 3. The command of the README


def test_the_command_and_table_of_the_readme_convert_and_fail_with_one_line(tmp_path):
    transformer = make_tiny_transformer()
    save_file(public_transformer(transformer), tmp_path / "videoar.safetensors")
    (tmp_path / "key_map.json").write_text(json.dumps(KEY_MAP))
    (tmp_path / "config.json").write_text(json.dumps(plain_config(transformer)))
    command = next(line for line in README.splitlines() if line.startswith("python conversion/convert_videoar"))
    script, *flags = command.split()[1:]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    runs = [
        subprocess.run(
            [sys.executable, ROOT / script, *flags], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        for _ in range(2)
    ]
    assert runs[0].returncode == 0, runs[0].stderr
    assert_equal_models(VideoARTransformer3DModel.from_pretrained(tmp_path / "transformer"), transformer)
    assert runs[1].returncode == 2
    assert runs[1].stderr.endswith(".py: error: `--output_path` transformer exists already. Name a new folder.\n")
