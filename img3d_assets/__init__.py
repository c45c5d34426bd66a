# SPDX-License-Identifier: Apache-2.0
"""What img3d makes, as plain data, and the files that hold it; knows no Nerfstudio."""
