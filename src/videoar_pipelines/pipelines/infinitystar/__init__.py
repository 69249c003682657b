# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""InfinityStar from a prompt to frames, with the same split as the pipelines of VideoAR: sampler, stream, pipeline."""
