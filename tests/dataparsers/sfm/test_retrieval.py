# SPDX-License-Identifier: Apache-2.0
"""Which photos are matched: all with all while they are few, then only neighbours in order and what looks alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from img3d_dataparsers.sfm.retrieval import ALIKE, ALL_PAIRS, IN_ORDER, WORDS, global_descriptors, pairs_to_match

MANY = 3 * ALL_PAIRS
Pair = tuple[int, int]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Where other processes keep the cores busy, threads wait long for each other in work as small as this."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def photos_of_places(places: Iterable[int], seed: int, features: int = 100) -> list[Tensor]:
    """Descriptors of photos `[F, 128]`, one photo for each number; photos of the same place share half of theirs.

    Descriptors of all places scatter around the same few hundred prototypes, as those of similar materials do, and a
    place seen again looks a bit different.
    """
    rng = np.random.default_rng(seed)
    places = list(places)
    prototypes = rng.gamma(0.5, size=(300, 128))

    def descriptors(count: int) -> np.ndarray:
        return prototypes[rng.integers(len(prototypes), size=count)] * rng.gamma(4, size=(count, 128))

    of_place = {place: descriptors(features) for place in sorted(set(places))}
    photos = []
    for place in places:
        seen = rng.choice(of_place[place], features // 2, replace=False)
        seen = seen * rng.normal(1, 0.1, size=seen.shape).clip(0.5, 1.5)
        raw = np.concatenate([seen, descriptors(features - len(seen))])
        photos.append(torch.from_numpy(np.sqrt(raw / raw.sum(axis=1, keepdims=True))).half())
    return photos


def all_pairs(n: int) -> list[Pair]:
    return [(i, j) for i in range(n) for j in range(i + 1, n)]


def neighbours(n: int) -> set[Pair]:
    return {(i, j) for i, j in all_pairs(n) if j - i <= IN_ORDER}


def assert_well_formed(pairs: list[Pair], n: int) -> None:
    assert pairs == sorted(set(pairs))
    assert all(0 <= i < j < n for i, j in pairs)


class TestFewPhotos:
    @pytest.mark.parametrize("n", [0, 1, 2, 3, ALL_PAIRS])
    def test_each_is_matched_with_every_other(self, n: int) -> None:
        assert pairs_to_match(photos_of_places(range(n), seed=n)) == all_pairs(n)

    def test_one_more_than_few_is_many(self) -> None:
        n = ALL_PAIRS + 1
        assert len(pairs_to_match(photos_of_places(range(n), seed=0))) < len(all_pairs(n))


class TestManyPhotos:
    @pytest.mark.parametrize("n", [MANY, 2 * MANY, 4 * MANY])
    def test_pairs_grow_with_the_photos_not_with_their_square(self, n: int) -> None:
        pairs = pairs_to_match(photos_of_places(np.arange(n) // 4, seed=1))
        assert_well_formed(pairs, n)
        assert len(pairs) <= (IN_ORDER + ALIKE) * n
        assert {i for pair in pairs for i in pair} == set(range(n))

    def test_neighbours_in_order_are_matched_whatever_they_show(self) -> None:
        pairs = pairs_to_match(photos_of_places(range(MANY), seed=2))
        assert neighbours(MANY) <= set(pairs)

    def test_every_photo_is_matched_with_at_least_as_many_as_look_alike(self) -> None:
        pairs = pairs_to_match(photos_of_places(range(MANY), seed=3))
        assert np.bincount(np.array(pairs).flatten(), minlength=MANY).min() >= ALIKE

    def test_photos_of_the_same_place_are_found_wherever_they_are_in_the_order(self) -> None:
        places = np.random.default_rng(4).permutation(np.repeat(np.arange(30), MANY // 30))
        pairs = set(pairs_to_match(photos_of_places(places, seed=5)))
        same = {(i, j) for i, j in all_pairs(MANY) if places[i] == places[j]} - neighbours(MANY)
        assert len(same) > 100
        assert len(same & pairs) >= 0.95 * len(same)
        by_chance = len(pairs - neighbours(MANY)) / (len(all_pairs(MANY)) - len(neighbours(MANY)))
        assert by_chance < 0.35

    def test_a_walk_that_returns_is_closed(self) -> None:
        there = np.arange(MANY // 2)
        pairs = set(pairs_to_match(photos_of_places([*there, *there], seed=6)))
        again = [(i, i + MANY // 2) for i in there.tolist()]
        assert sum(pair in pairs for pair in again) >= 0.95 * len(again)

    def test_the_same_photos_give_the_same_pairs(self) -> None:
        photos = photos_of_places(np.arange(MANY) // 3, seed=7)
        assert pairs_to_match(photos) == pairs_to_match([photo.clone() for photo in photos])

    def test_they_are_the_same_on_one_core_as_on_two(self) -> None:
        photos = photos_of_places(np.arange(MANY) // 3, seed=8)
        on_one = pairs_to_match(photos)
        torch.set_num_threads(2)
        assert pairs_to_match(photos) == on_one


class TestPhotosWithoutFeatures:
    def test_a_few_empty_photos_do_not_disturb_the_others(self) -> None:
        places = np.arange(MANY) % 30
        photos = photos_of_places(places, seed=9)
        empty = [0, 7, 8, MANY - 1]
        for i in empty:
            photos[i] = torch.empty(0, 128, dtype=torch.float16)
        pairs = pairs_to_match(photos)
        assert_well_formed(pairs, MANY)
        full = [(i, j) for i, j in all_pairs(MANY) if places[i] == places[j] and not {i, j} & set(empty)]
        assert sum(pair in set(pairs) for pair in full) >= 0.95 * len(full)

    def test_an_empty_photo_looks_like_nothing(self) -> None:
        photos = photos_of_places([0, 0, 1], seed=10)
        vectors = global_descriptors([*photos, torch.empty(0, 128, dtype=torch.float16)])
        assert (vectors @ vectors[3] == 0).all()

    def test_nothing_but_empty_photos(self) -> None:
        pairs = pairs_to_match([torch.empty(0, 128, dtype=torch.float16)] * MANY)
        assert_well_formed(pairs, MANY)
        assert neighbours(MANY) <= set(pairs)

    def test_fewer_features_in_all_than_the_vocabulary_has_words(self) -> None:
        photos = [photo[: i % 2] for i, photo in enumerate(photos_of_places(range(ALL_PAIRS + 1), seed=11))]
        assert_well_formed(pairs_to_match(photos), ALL_PAIRS + 1)


class TestGlobalDescriptors:
    def test_more_in_common_is_more_alike(self) -> None:
        places = np.arange(20) // 2
        vectors = global_descriptors(photos_of_places(places, seed=12)).numpy()
        similarity = vectors @ vectors.T
        np.fill_diagonal(similarity, -np.inf)
        np.testing.assert_array_equal(places[similarity.argmax(axis=1)], places)

    @given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
    @settings(max_examples=30, deadline=None)
    def test_they_have_length_one_or_none_whatever_the_number_of_features(self, counts: list[int], seed: int) -> None:
        photos = photos_of_places(range(len(counts)), seed, features=40)
        vectors = global_descriptors([photo[:count] for photo, count in zip(photos, counts, strict=True)])
        lengths = vectors.norm(dim=1).numpy()
        np.testing.assert_allclose(lengths, lengths.round(), rtol=0, atol=1e-6)  # float32
        assert (lengths[np.array(counts) == 0] < 0.5).all()
        if sum(counts) > 2 * WORDS:  # with fewer in all, or few in a photo, each may coincide with a word
            assert (lengths[np.array(counts) > 20] > 0.5).all()
