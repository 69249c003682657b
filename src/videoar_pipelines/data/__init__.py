# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Training data: which clips there are, in which batch each is, and how files become tensors. May import `models`, `schedulers`,
`moving_shapes` and `utils`, never `training` or `pipelines`.

The *position* of a batch source is the number of its next batch; *features* are what the tokenizer gives before quantisation.
"""
