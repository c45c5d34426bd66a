# SPDX-License-Identifier: Apache-2.0
"""Selecting pairs of photos to match: all pairs of a few photos; of many, neighbours in order and similar photos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from img3d_base.threaded import one_thread_each

ALL_PAIRS = 40
"""Largest number of photos of which every pair is matched."""
IN_ORDER = 6
"""Number of following photos by name that each photo is matched with: photos and video frames are numbered in order."""
ALIKE = 16
"""Number of most similar photos that each photo is matched with."""
WORDS = 64
"""Size of the visual vocabulary, as in the paper."""
SAMPLES = 64
"""Number of descriptors of each photo from which the vocabulary is learned."""
ITERATIONS = 12


def pairs_to_match(descriptors: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Sorted pairs `(i, j)` with `i < j`.

    Args:
        descriptors: `[F, 128]` of each photo, in the photos' order.
    """
    n = len(descriptors)
    if n <= ALL_PAIRS:
        return [(i, j) for i in range(n) for j in range(i + 1, n)]
    pairs = {(i, j) for i in range(n) for j in range(i + 1, min(i + 1 + IN_ORDER, n))}
    with one_thread_each():
        vectors = global_descriptors(descriptors)
        similarity = (vectors @ vectors.T).numpy()
    np.fill_diagonal(similarity, -np.inf)
    alike = np.argsort(-similarity, axis=1, kind="stable")[:, :ALIKE]
    pairs.update((min(i, j), max(i, j)) for i, row in enumerate(alike.tolist()) for j in row)
    return sorted(pairs)


def global_descriptors(descriptors: Sequence[Tensor]) -> Tensor:
    """One unit vector per photo: VLAD (Jégou et al. 2010) with intra-normalisation (Arandjelović and Zisserman 2013).

    The vocabulary is learned from the photos themselves, so that nothing needs to be downloaded.

    Args:
        descriptors: `[F, 128]` of each photo.

    Returns:
        `[N, 64 * 128]`.
    """
    words = _vocabulary(descriptors)
    vectors = torch.zeros(len(descriptors), WORDS, words.shape[1])
    for vector, of_photo in zip(vectors, descriptors, strict=True):
        if len(of_photo) > 0:
            of_photo = of_photo.float()
            word = _nearest(of_photo, words)
            vector.index_add_(0, word, of_photo - words[word])
    vectors = torch.nn.functional.normalize(vectors, dim=2)
    return torch.nn.functional.normalize(vectors.flatten(1), dim=1)


def _vocabulary(descriptors: Sequence[Tensor]) -> Tensor:
    """Visual words `[64, 128]`, by k-means (Lloyd) on descriptors drawn evenly from every photo."""
    samples = torch.cat([d[torch.linspace(0, max(len(d) - 1, 0), min(SAMPLES, len(d))).long()] for d in descriptors])
    samples = samples.float()
    if len(samples) < WORDS:
        return torch.nn.functional.pad(samples, (0, 0, 0, WORDS - len(samples)))
    words = samples[torch.linspace(0, len(samples) - 1, WORDS).long()]
    for _ in range(ITERATIONS):
        word = _nearest(samples, words)
        counts = torch.bincount(word, minlength=WORDS)[:, None]
        sums = torch.zeros_like(words).index_add_(0, word, samples)
        words = torch.where(counts > 0, sums / counts.clamp(min=1), words)
    return words


def _nearest(descriptors: Tensor, words: Tensor) -> Tensor:
    """Index of the word nearest to each descriptor, `[F]`."""
    return (descriptors @ words.T - 0.5 * (words**2).sum(dim=1)).argmax(dim=1)
