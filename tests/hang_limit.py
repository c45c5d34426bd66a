# SPDX-License-Identifier: Apache-2.0
"""How long tests wait for a process, a thread or a page before they call it hung.

Not a measure of speed: ten times and more what the slowest of them takes on two cores, because other jobs may run
beside the tests. pytest's own limit in pyproject.toml is longer: a test may run several processes.
"""

HANG_SECONDS = 900.0
