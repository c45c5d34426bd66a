# SPDX-License-Identifier: Apache-2.0
"""One file a splat format: what reads it, and what writes it if we do."""
