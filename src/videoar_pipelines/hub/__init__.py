# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
What a saved model carries for a user who meets it on the Hub: small files that load it, and a model card. May import `utils`.
"""
