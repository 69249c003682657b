# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
From a prompt to frames: the sampler holds the state of one video, the stream decodes it, the pipeline talks to the user. May import
`models`, `schedulers` and `utils`.
"""
