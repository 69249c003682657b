# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Which steps a latent frame has, how bits are sampled, and for training how they are corrupted. May import `models`."""
