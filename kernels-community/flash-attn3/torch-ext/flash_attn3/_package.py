# SPDX-License-Identifier: Apache-2.0
"""The package's name in error texts."""

NAME = "flash_attn3"
