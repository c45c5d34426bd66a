# SPDX-License-Identifier: Apache-2.0
"""The weights of published checkpoints: which there are, where they lie, how they are fetched and read."""
