# SPDX-License-Identifier: Apache-2.0
"""What every package of img3d stands on: errors of one line, files written whole, and checks of foreign files."""
