# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The tokenizer and the transformer, and the rules they share. A model keeps nothing between calls. Imports no other room."""
