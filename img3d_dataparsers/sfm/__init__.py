# SPDX-License-Identifier: Apache-2.0
"""Structure from motion: where plain photos were taken from, with what lens, and the points they share."""
