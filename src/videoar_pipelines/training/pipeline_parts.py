# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
What a checkpoint has to know, beside the trained weights, to become a whole pipeline or tokenizer: the small parts themselves, and
where the large frozen ones come from.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from transformers import T5Config, T5EncoderModel, T5TokenizerFast

from ..data.token_shards import fingerprint_of_encoder
from ..models.autoencoder_videoar import AutoencoderVideoAR
from ..models.transformer_videoar import VideoARTransformer3DModel
from ..pipelines.pipeline_videoar import VideoARPipeline
from ..schedulers.scheduling_videoar import VideoARScheduler
from ..utils.command_line import UsageError, loading
from .components import load_text_models


SOURCES_NAME = "pipeline_sources.json"
ENCODER_SOURCE_NAME = "encoder_source.json"


def save_parts(
    folder: Path,
    scheduler: VideoARScheduler,
    text_tokenizer: T5TokenizerFast,
    vae: str,
    text_encoder: str | None,
    dtype: torch.dtype,
) -> None:
    """
    Adds to a checkpoint what [`complete_pipeline`] reads.

    Args:
        folder (`Path`): Of the checkpoint.
        scheduler ([`VideoARScheduler`]): Saved.
        text_tokenizer (`T5TokenizerFast`): Saved.
        vae (`str`): Folder or Hub id of a video tokenizer, or of a pipeline with one.
        text_encoder (`str`, *optional*): The same; `None` if it is trained, and so in the checkpoint.
        dtype (`torch.dtype`): Of the frozen text encoder.
    """
    scheduler.save_pretrained(folder / "scheduler")
    text_tokenizer.save_pretrained(folder / "tokenizer")
    sources = {"vae": _absolute(vae), "text_encoder": text_encoder and _absolute(text_encoder)}
    sources["text_encoder_dtype"] = str(dtype).removeprefix("torch.")
    (folder / SOURCES_NAME).write_text(json.dumps(sources, indent=2) + "\n")


def save_encoder_source(folder: Path, vae: str, fingerprint: str) -> None:
    """
    Adds to a checkpoint of a decoder alone where its encoder comes from, and `fingerprint_of_encoder` of that tokenizer. See
    [`load_frozen_weights`].
    """
    source = {"vae": _absolute(vae), "encoder_sha256": fingerprint}
    (folder / ENCODER_SOURCE_NAME).write_text(json.dumps(source, indent=2) + "\n")


def load_frozen_weights(checkpoint: Path, trained: Collection[str], override: str | None) -> dict[str, torch.Tensor]:
    """
    The weights of a checkpoint's tokenizer that were not trained, and so are not in it.

    Args:
        checkpoint (`Path`): With the configuration of the tokenizer, and perhaps with what [`save_encoder_source`] wrote.
        trained (`Collection[str]`): Names of the weights that are in it.
        override (`str`, *optional*): A tokenizer to take them from instead, folder or Hub id.

    Raises:
        `UsageError`: It is not known where they are, they are not there, or the tokenizer there is another one.
    """
    with torch.device("meta"):
        whole = AutoencoderVideoAR.from_config(AutoencoderVideoAR.load_config(checkpoint, subfolder="vae"))
    frozen = {name: weight.shape for name, weight in whole.named_parameters() if name not in trained}
    if not frozen:
        return {}
    path = checkpoint / ENCODER_SOURCE_NAME
    known = json.loads(path.read_text()) if path.is_file() else {}
    source = override or known.get("vae")
    if source is None:
        raise UsageError(
            f"{checkpoint} lacks {len(frozen)} weights of the tokenizer, {next(iter(frozen))} and others, which were not trained: name"
            " the tokenizer that training began with by `--vae`."
        )
    vae = _load_vae(source)
    weights = dict(vae.named_parameters())
    fits = all(name in weights and weights[name].shape == shape for name, shape in frozen.items())
    if not fits or known.get("encoder_sha256") not in (None, fingerprint_of_encoder(vae)):
        raise UsageError(
            f"`--vae` {source!r} is not the tokenizer that {checkpoint} began with: its encoder has other weights or settings. Name"
            " that one by `--vae`."
        )
    return {name: weights[name].detach() for name in frozen}


def _absolute(source: str) -> str:
    return str(Path(source).resolve()) if Path(source).exists() else source


def complete_pipeline(checkpoint: Path, folder: Path, overrides: dict[str, str | None]) -> None:
    """
    Makes a pipeline of a folder that has the trained models of a checkpoint.

    Args:
        checkpoint (`Path`): With what [`save_parts`] wrote.
        folder (`Path`): With a folder for every trained model; the others are added, and `model_index.json`.
        overrides (`dict[str, str]`): `vae` and `text_encoder` from elsewhere than training took them, if not `None`.

    Raises:
        `UsageError`: A frozen model is no longer where training took it from.
    """
    sources = json.loads((checkpoint / SOURCES_NAME).read_text())
    sources |= {name: source for name, source in overrides.items() if source is not None}
    scheduler = VideoARScheduler.from_pretrained(checkpoint, subfolder="scheduler")
    text_tokenizer = T5TokenizerFast.from_pretrained(checkpoint, subfolder="tokenizer")
    vae = _load_vae(sources["vae"])
    if (folder / "text_encoder").is_dir():
        with torch.device("meta"):
            text_encoder = T5EncoderModel(T5Config.from_pretrained(folder, subfolder="text_encoder"))
    else:
        with loading("--text_encoder", sources["text_encoder"]):
            dtype = getattr(torch, sources["text_encoder_dtype"])
            text_encoder = load_text_models(sources["text_encoder"], dtype)[1]
        text_encoder.save_pretrained(folder / "text_encoder")
    for name, part in {"scheduler": scheduler, "tokenizer": text_tokenizer, "vae": vae}.items():
        part.save_pretrained(folder / name)
    with torch.device("meta"):
        config = VideoARTransformer3DModel.load_config(folder, subfolder="transformer")
        transformer = VideoARTransformer3DModel.from_config(config)
    parts: dict[str, Any] = {"tokenizer": text_tokenizer, "text_encoder": text_encoder, "vae": vae}
    VideoARPipeline(**parts, transformer=transformer, scheduler=scheduler).save_config(folder)


def _load_vae(source: str) -> AutoencoderVideoAR:
    is_pipeline = (Path(source) / "vae").is_dir() or not (Path(source) / "config.json").is_file()
    with loading("--vae", source):
        return AutoencoderVideoAR.from_pretrained(source, subfolder="vae" if is_pipeline else None)
