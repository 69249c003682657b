# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
*Moving shapes*, a data set that is drawn by a program, and the judge that tells what a video of it shows. Imports no other room.
"""
