# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Measures of finished models. May import every room but `training`; of `pipelines` only to sample. No other room imports this one."""
