# SPDX-License-Identifier: Apache-2.0
"""Many runs at once: each item of a folder or a table becomes a run and its exports, on one machine or several."""
