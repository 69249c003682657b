# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
What training scripts are made of: the step of the transformer and that of the tokenizer as tested functions, and all that a run
needs around them. May import every other room; of `pipelines` only to sample and to validate. No other room imports this one.

Here and in `data` the *tokenizer* is that of videos (`vae`); the one of a text encoder is called *text tokenizer*.
"""
