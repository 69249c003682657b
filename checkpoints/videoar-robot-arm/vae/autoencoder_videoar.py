# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Read by `AutoModel.from_pretrained` with `trust_remote_code=True`. The code is in the package videoar_pipelines."""

try:
    from videoar_pipelines import AutoencoderVideoAR
except ModuleNotFoundError as error:
    if error.name != "videoar_pipelines":
        raise
    raise ImportError("This model needs the package videoar_pipelines: pip install videoar_pipelines") from None

__all__ = ["AutoencoderVideoAR"]
