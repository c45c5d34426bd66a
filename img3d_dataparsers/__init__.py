# SPDX-License-Identifier: Apache-2.0
"""Data parsers: from folders of photos and videos to cameras, images and seed points."""
