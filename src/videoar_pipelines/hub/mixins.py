# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Mixins that stand before diffusers' base classes, so that `save_pretrained` and `push_to_hub` write what a Hub user needs. Loading and
saving themselves stay diffusers' own.
"""

import json
from pathlib import Path
from typing import Any

from diffusers.utils.hub_utils import load_or_create_model_card, populate_model_card
from huggingface_hub import create_repo

from .loaders import (
    PACKAGE,
    class_of_package,
    is_of_package,
    write_blocks_loader,
    write_model_loader,
    write_pipeline_loader,
)
from .model_card import CARD_FILE, component_card, is_written_by_hand, pipeline_card, write_card


class HubCardMixin:
    """A component or pipeline whose repository on the Hub gets our model card where diffusers would put a filler."""

    def model_card(self, name: str) -> str:
        """The card's text; `name` is the id on the Hub, or the folder."""
        return component_card(class_of_package(type(self)).__name__, self, name)

    def _upload_folder(self, working_dir: Any, repo_id: str, *args: Any, subfolder: str | None = None, **kwargs: Any):
        # All roads of diffusers to the Hub end here. `README.md` is by now the repository's own card, or the filler.
        if subfolder is None:
            write_card(Path(working_dir), self.model_card(repo_id))
        return super()._upload_folder(working_dir, repo_id, *args, subfolder=subfolder, **kwargs)


class HubModelMixin(HubCardMixin):
    """A model that `AutoModel.from_pretrained(..., trust_remote_code=True)` finds: `auto_map` in `config.json`, and the file it names."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        # diffusers writes `auto_map` for a class that has this. A user's class lies in a module that we do not know.
        cls._auto_class = "AutoModel" if is_of_package(cls) else None

    @classmethod
    def extract_init_dict(cls, config_dict: dict[str, Any], **kwargs: Any):
        # It is no argument; diffusers would warn of it.
        return super().extract_init_dict({key: config_dict[key] for key in config_dict if key != "auto_map"}, **kwargs)

    def save_config(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        if self._auto_class is not None:
            cls = type(self)
            write_model_loader(Path(save_directory), cls.__module__.split(".")[-1], cls.__name__)
        super().save_config(save_directory, *args, **kwargs)


class HubPipelineMixin(HubCardMixin):
    """
    A pipeline whose folder carries `pipeline.py`, modular blocks where there are some, and a model card.

    Attributes:
        blocks_class_name (`str`, *optional*): The modular blocks of this pipeline, a class of the package.
    """

    blocks_class_name: str | None = None

    def to_json_string(self) -> str:
        """
        The text of `model_index.json`. It says `["diffusers", "VideoARScheduler"]`, since the package adds its classes to diffusers: a
        library that diffusers does not know, while the package is not imported, would stop it before it reads `pipeline.py`.
        """
        index = json.loads(super().to_json_string())
        for value in index.values():
            if isinstance(value, list) and value[:1] == [PACKAGE]:
                value[0] = "diffusers"
        return json.dumps(index, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        folder = Path(save_directory)
        write_pipeline_loader(folder, class_of_package(type(self)).__name__)
        if self.blocks_class_name is not None:
            write_blocks_loader(folder, self.blocks_class_name)
        write_card(folder, self.model_card(folder.resolve().name))
        super().save_config(save_directory, *args, **kwargs)

    def save_pretrained(
        self,
        save_directory: Any,
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
        push_to_hub: bool = False,
        use_flashpack: bool = False,
        repo_id: str | None = None,
        commit_message: str | None = None,
        private: bool | None = None,
        create_pr: bool = False,
        token: str | None = None,
    ) -> None:
        """
        Saves all components, and what loads them. As in diffusers, but with `pipeline.py`, modular blocks and a model card; a card that
        somebody wrote stays.

        Args:
            save_directory (`str` or `os.PathLike`): Folder.
            safe_serialization (`bool`, defaults to `True`): Whether to write safetensors.
            variant (`str`, *optional*): For the names of weight files.
            max_shard_size (`int` or `str`, *optional*): Of a weight file.
            push_to_hub (`bool`, defaults to `False`): Whether to upload the folder; the arguments below are for this.
            use_flashpack (`bool`, defaults to `False`): Whether to write FlashPack weights.
            repo_id (`str`, *optional*): Defaults to the name of the folder.
            commit_message (`str`, *optional*): Of the upload.
            private (`bool`, *optional*): Whether a new repository is private.
            create_pr (`bool`, defaults to `False`): Whether to open a pull request.
            token (`str`, *optional*): Of the Hub.

        Raises:
            `ValueError`: `repo_id` was passed without `push_to_hub`.
        """
        if repo_id is not None and not push_to_hub:
            raise ValueError(
                f"`repo_id` is {repo_id!r}, but nothing is uploaded. Pass `push_to_hub=True` too, or none."
            )
        super().save_pretrained(
            save_directory, safe_serialization, variant, max_shard_size, use_flashpack=use_flashpack
        )
        if not push_to_hub:
            return
        folder = Path(save_directory)
        repo_id = create_repo(repo_id or folder.resolve().name, exist_ok=True, private=private, token=token).repo_id
        if not is_written_by_hand(folder / CARD_FILE):
            # The repository's own card, if it has one.
            card = load_or_create_model_card(repo_id, token=token, is_pipeline=True)
            populate_model_card(card).save(folder / CARD_FILE)
        self._upload_folder(folder, repo_id, token=token, commit_message=commit_message, create_pr=create_pr)

    def model_card(self, name: str) -> str:
        """The card's text; `name` is the id on the Hub, or the folder."""
        return pipeline_card(
            class_of_package(type(self)).__name__,
            self.components,
            name,
            self.describe_default_size(),
            has_blocks=self.blocks_class_name is not None,
        )

    def describe_default_size(self) -> str:
        """A sentence on what a call without sizes makes; empty if there is no such size."""
        return ""
