# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Turns a public checkpoint of VideoAR, under whatever names, into a folder for `from_pretrained`.

    python conversion/convert_videoar_to_diffusers.py --component transformer --checkpoint_path videoar.safetensors --key_map key_map.json --config config.json --output_path transformer

1. The file is read as tensors only; nothing in it is executed.
2. The table `--key_map` gives every tensor its name here. README.md says how to fill it.
3. Every tensor must be used exactly once and every parameter filled, or the conversion fails and says what is different.
4. The model is written to a temporary folder, which is renamed when it is complete.
"""

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from checkpoint_files import (
    ConversionError,
    check_complete,
    check_is_new,
    complete_folder,
    describe,
    first_of,
    read_checkpoint,
    unwrap,
)

from videoar_pipelines import AutoencoderVideoAR, VideoARTransformer3DModel
from videoar_pipelines.utils.command_line import CommandLineParser, run_command_line


MODELS = {"vae": AutoencoderVideoAR, "transformer": VideoARTransformer3DModel}

# Keys under which a file may hold the tensors of a component.
WRAPPERS = {
    "vae": ("vae", "ema", "state_dict", "trainer", "vae_local", "model", "module"),
    "transformer": ("transformer", "ema", "state_dict", "trainer", "model", "module"),
}

# Parameters whose rows follow the channels of a head, which Multi-scale Temporal RoPE rotates in pairs.
ROTATED = r"blocks\.\d+\.attn\.(to_q|to_k|norm_q|norm_k)\.weight"


# 1. The table


@dataclass
class Row:
    """
    Args:
        pattern (`re.Pattern`): Of the whole public name.
        names (`list[str]`):
            Our names, with the pattern's named groups in braces. Several share the rows of the tensor. `name#0`, `name#1`, …
            are parts that are put together in this order.
        split (`list[int]`): The shares of the names.
    """

    pattern: re.Pattern
    names: list[str]
    split: list[int]


@dataclass
class KeyMap:
    """
    Args:
        rows (`list[Row]`): Exactly one has to know a key; their order means nothing.
        dropped (`list[re.Pattern]`): Keys that carry no weights.
        rotary_pairs (`str`): `"halves"`, or `"adjacent"` if the public code rotates channels `2i` and `2i + 1` of a head.
    """

    rows: list[Row]
    dropped: list[re.Pattern]
    rotary_pairs: str

    def matches(self, key: str) -> list[tuple[Row, re.Match]]:
        return [(row, match) for row in self.rows if (match := row.pattern.fullmatch(key))]

    def is_dropped(self, key: str) -> bool:
        return any(pattern.fullmatch(key) for pattern in self.dropped)


def read_key_map(path: Path) -> KeyMap:
    table = read_json(path, "--key_map")
    rows, dropped, rotary_pairs = table.get("rows"), table.get("dropped", []), table.get("rotary_pairs", "halves")
    unknown = table.keys() - {"rows", "dropped", "rotary_pairs"}
    if unknown or not isinstance(rows, list) or not is_list_of(str, dropped):
        raise ConversionError(
            f"`--key_map` {path} must hold a list `rows`, and may hold a list of patterns `dropped` and `rotary_pairs`; "
            f"it holds {sorted(table)}."
        )
    if rotary_pairs not in ("halves", "adjacent"):
        raise ConversionError(f"`rotary_pairs` in {path} is {rotary_pairs!r}: choose 'halves' or 'adjacent'.")
    return KeyMap([read_row(row) for row in rows], [compile_pattern(pattern) for pattern in dropped], rotary_pairs)


def read_row(row: object) -> Row:
    fields = row if isinstance(row, dict) else {}
    names = [fields["name"]] if isinstance(fields.get("name"), str) else fields.get("name")
    is_known = fields.keys() <= {"pattern", "name", "split"} and isinstance(fields.get("pattern"), str)
    if not (is_known and names and is_list_of(str, names)):
        raise ConversionError(
            f"The table's row {row} must have a `pattern`, a `name` or list of names, and may have a `split`."
        )
    split = fields.get("split", [1] * len(names))
    if not is_list_of(int, split) or len(split) != len(names) or min(split) < 1:
        raise ConversionError(f"The table's row {row} needs one whole number above 0 in `split` for every name.")
    pattern = compile_pattern(fields["pattern"])
    try:
        [name.format(**dict.fromkeys(pattern.groupindex, "0")) for name in names]
    except (LookupError, ValueError, AttributeError) as error:
        groups = ", ".join(pattern.groupindex) or "none"
        raise ConversionError(
            f"The table's row {row} names a group that its pattern lacks; it has {groups}."
        ) from error
    return Row(pattern, names, split)


def compile_pattern(pattern: str) -> re.Pattern:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConversionError(f"The table's pattern {pattern!r} is no regular expression: {error}.") from error


def is_list_of(kind: type, value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def read_json(path: Path, flag: str) -> dict:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConversionError(f"`{flag}` {path} cannot be read as JSON: {error}.") from error
    if not isinstance(value, dict):
        raise ConversionError(f"`{flag}` {path} holds a {type(value).__name__} and not an object in braces.")
    return value


# 2. Tensors


def rename(public: dict[str, torch.Tensor], key_map: KeyMap) -> dict[str, torch.Tensor]:
    """Our tensors, each with a memory of its own. `public` is emptied, so that memory holds little more than one copy."""
    unknown = [
        f"{key} {describe(tensor)}"
        for key, tensor in public.items()
        if not key_map.is_dropped(key) and not (key_map.matches(key) and is_weight(tensor))
    ]
    if unknown:
        raise ConversionError(f"The checkpoint has {first_of(unknown)} that no row of the table takes as weights.")
    sources, parts = {}, {}
    for key in list(public):
        tensor, matches = public.pop(key), key_map.matches(key)
        if len(matches) + key_map.is_dropped(key) > 1:
            raise ConversionError(f"The table knows {key} more than once: by several rows, or by a row and `dropped`.")
        for row, match in matches:
            names = [name.format(**match.groupdict(default="")) for name in row.names]
            for target, piece in zip(names, split_rows(key, tensor, row.split)):
                if target in sources:
                    raise ConversionError(f"The table names {target} twice: for {sources[target]} and for {key}.")
                sources[target] = key
                name, _, part = target.partition("#")
                parts.setdefault(name, {})[part] = piece.clone()
    return {name: join_parts(name, parts.pop(name)) for name in list(parts)}


def is_weight(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def split_rows(key: str, tensor: torch.Tensor, split: list[int]) -> tuple[torch.Tensor, ...]:
    if len(split) == 1:
        return (tensor,)
    if tensor.ndim == 0 or tensor.shape[0] % sum(split):
        raise ConversionError(f"{key} {describe(tensor)} has no rows for the shares {split} of its names.")
    return tensor.split([share * tensor.shape[0] // sum(split) for share in split])


def join_parts(name: str, parts: dict[str, torch.Tensor]) -> torch.Tensor:
    """One parameter; its only part is "", or they are "0", "1", and so on."""
    if list(parts) == [""]:
        return parts[""]
    order = [str(part) for part in range(len(parts))]
    if sorted(parts) != sorted(order):
        raise ConversionError(f"{name} has the parts {sorted(parts)} instead of {order}.")
    if len({part.shape[1:] for part in parts.values()}) > 1:
        raise ConversionError(f"The parts of {name} differ in shape: {', '.join(map(describe, parts.values()))}.")
    return torch.cat([parts[part] for part in order])


def separate_rotary_pairs(tensors: dict[str, torch.Tensor], head_dim: int) -> None:
    """From rows `(2i, 2i + 1)` of a head that are rotated together to rows `(i, i + head_dim / 2)`, in place."""
    for name in tensors:
        if re.fullmatch(ROTATED, name):
            pairs = tensors[name].unflatten(0, (-1, head_dim // 2, 2))
            tensors[name] = pairs.transpose(1, 2).flatten(0, 2)


# 3. The whole


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    check_is_new(args.output_path)
    key_map = read_key_map(args.key_map)
    if key_map.rotary_pairs == "adjacent" and args.component == "vae":
        raise ConversionError(f"`rotary_pairs` in {args.key_map} is of the transformer alone. Remove it for the vae.")
    model = make_model(args.component, args.config)

    public = unwrap(
        read_checkpoint(args.checkpoint_path),
        args.checkpoint_path,
        WRAPPERS[args.component],
        is_ours=lambda key: bool(key_map.matches(key)),
        absent=f"no {args.component}: the table has a row for none",
    )
    tensors = rename(public, key_map)
    check_complete(tensors, {name: tuple(parameter.shape) for name, parameter in model.state_dict().items()})
    if key_map.rotary_pairs == "adjacent":
        separate_rotary_pairs(tensors, model.config.attention_head_dim)
    model.load_state_dict(tensors, assign=True)
    with complete_folder(args.output_path) as folder:
        model.save_pretrained(folder)
    print(f"Converted {len(tensors)} tensors to {args.output_path}")


def parse_args(arguments: list[str] | None) -> argparse.Namespace:
    parser = CommandLineParser("Turn a public checkpoint of VideoAR into a folder.")
    parser.add_argument("--component", choices=MODELS, required=True, help="What the file holds.")
    parser.add_argument("--checkpoint_path", type=Path, required=True, help="A .safetensors, .pth or .pt file.")
    parser.add_argument("--key_map", type=Path, required=True, help="The table of names, JSON; see README.md.")
    parser.add_argument("--config", type=Path, required=True, help="The arguments of the model's class, JSON.")
    parser.add_argument("--output_path", type=Path, required=True, help="The folder to write, which must not exist.")
    return parser.parse_args(arguments)


def make_model(component: str, config_path: Path) -> AutoencoderVideoAR | VideoARTransformer3DModel:
    """The model without memory for its parameters."""
    config = read_json(config_path, "--config")
    try:
        with torch.device("meta"):
            return MODELS[component](**config)
    except (TypeError, ValueError) as error:
        raise ConversionError(f"`--config` {config_path} makes no {MODELS[component].__name__}: {error}") from error


if __name__ == "__main__":
    run_command_line(main)
