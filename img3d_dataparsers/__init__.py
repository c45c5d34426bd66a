# SPDX-License-Identifier: Apache-2.0
"""Data parsers: folders of photos in, cameras, images and seed points out."""
