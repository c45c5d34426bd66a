# SPDX-License-Identifier: Apache-2.0
"""The data parser `img3d-photos`, which recognises and reads data sets of all supported formats."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from img3d_base.atomic_files import cache_folders
from img3d_base.console import print_line
from img3d_base.errors import InputError, warn
from img3d_base.text_links import followed
from img3d_dataparsers.camera_distance import CameraDistance, in_metres
from img3d_dataparsers.depth.points import points_from_depth
from img3d_dataparsers.image_dataset import UPRIGHT
from img3d_dataparsers.images.camera_sizes import at_most, downscaled
from img3d_dataparsers.images.undistortion import with_denominators
from img3d_dataparsers.inputs import read_posed_photos
from img3d_dataparsers.lenses.view_files import perspective_views
from img3d_dataparsers.normalisation import CenterMethod, normalise
from img3d_dataparsers.posed_photos import FloatArray, OrientationMethod, PosedPhotos, SeedPoints
from img3d_dataparsers.seeds.points_of_photos import (
    PosesContradictedError,
    photos_at_most,
    triangulated,
    with_points_of_photos,
)
from img3d_dataparsers.sfm.photo_lens import CameraType
from img3d_dataparsers.splits import EvalMode, indices_of_split, lists_in
from img3d_dataparsers.usable_photos import UsablePhoto, usable_photos
from img3d_dataparsers.videos.videos import MAX_VIDEO_FRAMES

MIN_PHOTOS = 3
"""Fewest photos to train on: two views do not determine the depth of most points."""
SYNTHETIC_SCENE_BOX = 1.5
"""Half the side of the box that contains NeRF-synthetic objects (as in Nerfstudio's Blender parser)."""


@dataclass
class Img3dPhotosDataParserConfig(DataParserConfig):
    """Photos or a video; poses are solved for, unless the folder has them (transforms.json, NeRF-synthetic, COLMAP,
    LLFF, Polycam, Record3D, 3D Scanner App, Strecha)."""

    _target: type = field(default_factory=lambda: Img3dPhotos)
    """target class to instantiate"""
    data: Path = Path()
    """A folder of photos, with poses or without, a video, or a transforms.json."""
    max_image_size: int | None = field(default_factory=lambda: 1600 if torch.cuda.is_available() else 800)
    """Longest side in pixels: larger photos are downscaled when they are read; None for full size.
    The default is what trains in reasonable time: 1600 with CUDA, 800 without."""
    downscale_factor: float | None = None
    """Read the photos at 1/factor of their size, regardless of max_image_size; any positive factor."""
    scale_factor: float = 1.0
    """How much to scale the camera origins by."""
    scene_scale: float = 1.0
    """How much to scale the region of interest by."""
    orientation_method: OrientationMethod = "up"
    """The method to use for orientation. (NeRF-synthetic worlds stay as they are, with scale_factor applied.)
    "up" is the mean of the cameras' up vectors or, for photos without poses, found from ground plane, level and
    sensors."""
    center_method: CenterMethod = "poses"
    """The method to use to center the poses."""
    auto_scale_poses: bool = True
    """Whether to automatically scale the poses to fit in +/- 1 bounding box."""
    eval_mode: EvalMode = "interval"
    """
    The method to use for splitting the dataset into train and eval, unless the data set has its own lists (in
    transforms.json, or as train_list.txt, validation_list.txt, test_list.txt).
    Interval holds out every nth photo: 0, n, 2n, … in the order of their names.
    Fraction holds out evenly spread photos.
    Filename splits based on filenames containing train/eval.
    All uses all the images for any split.
    """
    eval_interval: int = 8
    """The interval between photos to hold out. Only used when eval_mode is interval."""
    train_split_fraction: float = 0.9
    """The fraction of photos to train on. Only used when eval_mode is fraction."""
    load_3D_points: bool = True
    """Whether to start from the 3D points of the reconstruction (ply_file_path in transforms.json, or COLMAP's), else
    from its depth maps."""
    triangulate_points: bool = True
    """Whether to triangulate 3D points from the training photos if the data has poses but no points, and in addition to
    the points from solving for poses. They are kept in the data's folder. Not for NeRF-synthetic, and only with
    load_3D_points."""
    seed_points: Literal["auto", "triangulated", "dense"] = "auto"
    """Where triangulated points are used: "triangulated" takes only points with distinct features; "dense" adds points
    from coarse multi-view stereo, which also finds surfaces without features; "auto" is "dense" for up to 40 training
    photos."""
    cache_dir: Path | None = None
    """Where to keep results that are computed once (poses, seed points, frames of a video). Default: .img3d in the
    data's folder, or ~/.cache/img3d if that is read-only."""
    max_video_frames: int = MAX_VIDEO_FRAMES
    """Largest number of frames taken from a video. One is taken for each step of camera motion; if these are more, they
    are thinned evenly."""
    camera_type: CameraType = "auto"
    """The lens of photos or video without poses: "perspective", "fisheye", or "equirectangular" for 360° panoramas.
    "auto" finds it out by each photo's shape, tags and edges."""
    refine_poses: bool = True
    """Whether to correct the data's poses by bundle adjustment if the photos' features contradict them, as they do
    those of a phone's own tracking. Found out where points are triangulated, and kept in the data's folder."""
    camera_distance: CameraDistance | None = None
    """Names of two photos and the measured distance between their cameras in metres: a.jpg b.jpg 1.2.
    Exports with --original-frame are then in metres, as they already are if GPS or a phone's ARKit gives the scale."""
    remove_background: bool = False
    """Whether to mask the background of photos that have no mask, for objects on a turntable (needs rembg: pip install
    'img3d[background]'; its network's weights are downloaded on the first run)."""


@dataclass
class PhotosOutputs(DataparserOutputs):
    """DataparserOutputs with `dataparser_transform` in double precision: georeferenced captures are millions of metres
    from the origin, where float32 rounds to half metres."""

    def transform_poses_to_original_space(
        self,
        poses: Float[Tensor, "num_poses 3 4"],
        camera_convention: Literal["opengl", "opencv"] = "opencv",
    ) -> Float[Tensor, "num_poses 3 4"]:
        """As in Nerfstudio, for `poses` of any precision; the result has double precision."""
        return super().transform_poses_to_original_space(poses.double(), camera_convention)


@dataclass
class Img3dPhotos(DataParser):
    """Reads posed photos of any supported format; unusable photos are left out with a warning.

    Raises InputError if too few photos remain to train on.
    """

    config: Img3dPhotosDataParserConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, config: Img3dPhotosDataParserConfig):
        super().__init__(config=config)
        # Train and eval splits usually come from one file: read it, check it and warn about it once.
        self._checked: dict[Path, tuple[PosedPhotos, list[UsablePhoto]]] = {}
        self._may_refine = config.refine_poses

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: dict | None) -> DataparserOutputs:
        if split not in ("train", "val", "test"):
            raise ValueError(f"unknown split {split!r}")
        posed, photos = self._read_and_check(split)

        poses = np.stack([photo.camera_to_world for photo in photos])
        if posed.is_normalised:
            transform, scale = np.eye(4)[:3], self.config.scale_factor
            poses[:, :3, 3] *= scale
            box = SYNTHETIC_SCENE_BOX * self.config.scale_factor
        else:
            poses, transform, scale = normalise(
                poses,
                posed.orientation_method or self.config.orientation_method,
                self.config.center_method,
                self.config.auto_scale_poses,
                self.config.scale_factor,
                posed.up,
            )
            box = self.config.scene_scale
        indices = self._indices(posed, [photo.image_path for photo in photos], split)

        # A photo is held out with all of its views, which show no more than it does.
        views = perspective_views([photos[i] for i in indices], posed.folder, self.config.cache_dir)
        selected = [view.photo for view in views]
        poses = poses[indices][[view.source for view in views]]
        poses[:, :3, :3] @= np.stack([view.rotation for view in views])
        masks = [None if photo.mask_path is None else followed(photo.mask_path) for photo in selected]
        alpha_color = None if posed.alpha_color is None else torch.tensor(posed.alpha_color)
        metadata: dict[str, Any] = {UPRIGHT: [photo.upright for photo in selected]}
        if alpha_color is not None:
            metadata["alpha_color"] = alpha_color  # models get the metadata, but not DataparserOutputs.alpha_color
        cameras = _cameras(selected, poses[:, :3])
        outputs = PhotosOutputs(
            image_filenames=[followed(photo.image_path) for photo in selected],
            cameras=self._downscaled(cameras),
            alpha_color=alpha_color,
            scene_box=SceneBox(aabb=torch.tensor([[-box] * 3, [box] * 3], dtype=torch.float32)),
            # A photo without a mask among others that have one is used whole; Nerfstudio's type does not allow None.
            mask_filenames=cast(list[Path], masks) if any(masks) else None,
            metadata=metadata,
            dataparser_transform=torch.from_numpy(_from_capture(posed, transform)),
            dataparser_scale=scale * posed.applied_scale,
        )
        if self.config.load_3D_points and split == "train":
            are_whole = all(view.photo is photos[indices[view.source]] for view in views)
            try:
                points = self._seed_points(posed, selected, outputs, cameras, self._may_refine and are_whole)
            except PosesContradictedError as error:
                self._refine(posed, photos, error.misfit)
                return self._generate_dataparser_outputs(split)
            if points is not None:
                metadata.update(_normalised(points, transform, scale))
        return outputs

    def _seed_points(
        self,
        posed: PosedPhotos,
        photos: list[UsablePhoto],
        outputs: DataparserOutputs,
        cameras: Cameras,
        check_poses: bool,
    ) -> SeedPoints | None:
        """Points to start training from, in the frames' coordinates.

        Args:
            posed: The data set.
            photos: The photos to train on.
            outputs: The same photos.
            cameras: Theirs, at full size.
            check_poses: Whether to stop at poses that do not fit the photos.

        Raises:
            PosesContradictedError: They do not.
        """
        points = _some(posed.read_seed_points())
        full_size = replace(outputs, cameras=cameras)
        if points is None and not posed.is_normalised:
            points = points_from_depth(
                photos,
                cameras,
                lambda indices: triangulated(full_size, photos, indices, check_poses)[0],
                posed.applied_scale,
                posed.depth_units,
            )
        # Not for NeRF-synthetic: random points work well for a single object, and triangulating its 100 photos
        # would take half as long as training on the chair (and give 9,000 points, but none on its smooth legs).
        too_few = points is None or posed.adds_triangulated_points
        if too_few and self.config.triangulate_points and not posed.is_normalised:
            points = with_points_of_photos(
                points,
                posed.folder,
                self.config.cache_dir,
                photos,
                full_size,
                self._wants_dense_points(len(photos)),
                check_poses,
            )
        return points

    def _indices(self, posed: PosedPhotos, paths: list[Path], split: str) -> npt.NDArray[np.int64]:
        """Indices of the photos of a split."""
        if posed.is_normalised and not posed.splits:  # NeRF-synthetic has a file for each split
            return np.arange(len(paths))
        given = posed.splits or lists_in(posed.folder, paths)
        config = self.config
        return indices_of_split(
            paths, split, given, config.eval_mode, config.eval_interval, config.train_split_fraction
        )

    def _read_and_check(self, split: str) -> tuple[PosedPhotos, list[UsablePhoto]]:
        # Only NeRF-synthetic has a file for each split.
        posed = next((posed for posed, _ in self._checked.values() if not posed.is_normalised), None)
        posed = posed or read_posed_photos(
            self.config.data,
            split,
            self.config.cache_dir,
            self.config.remove_background,
            self.config.max_video_frames,
            self.config.camera_type,
        )
        if posed.source not in self._checked:
            # A split with its own file (NeRF-synthetic) may hold out any number of photos.
            at_least = 1 if posed.is_normalised and split != "train" else MIN_PHOTOS
            photos = usable_photos(posed, at_least)
            if self.config.camera_distance is not None:
                posed = in_metres(posed, photos, self.config.camera_distance)
            _print_frame(posed)
            self._checked[posed.source] = posed, self._with_refined_poses(posed, photos)
        return self._checked[posed.source]

    def _with_refined_poses(self, posed: PosedPhotos, photos: list[UsablePhoto]) -> list[UsablePhoto]:
        """The photos with the poses that an earlier run corrected, if one did."""
        from img3d_dataparsers.seeds.refined_poses import kept_poses

        kept = None
        if self._may_refine and not posed.is_normalised:
            kept = kept_poses(cache_folders(posed.folder, self.config.cache_dir), posed.folder, photos)
        if kept is None:
            return photos
        self._may_refine = False
        return _with_poses(photos, kept)

    def _refine(self, posed: PosedPhotos, photos: list[UsablePhoto], misfit: float) -> None:
        """Corrects the poses of all photos, and keeps them, so that later runs and other splits have the same."""
        from img3d_dataparsers.image_dataset import Img3dImageDataset
        from img3d_dataparsers.seeds.refined_poses import keep_poses
        from img3d_dataparsers.seeds.refinement import refine_poses
        from img3d_dataparsers.seeds.triangulation import IMAGE_SIZE

        fits = f"the given poses fit the photos to {misfit:.1f} pixels of {IMAGE_SIZE} only"
        print_line(f"{fits[0].upper()}{fits[1:]}: correcting them (once; --refine-poses False keeps them as they are)")
        given = np.stack([photo.camera_to_world for photo in photos])
        outputs = DataparserOutputs(
            image_filenames=[followed(photo.image_path) for photo in photos],
            cameras=_cameras(photos, given[:, :3]),
            mask_filenames=cast(Any, [photo.mask_path and followed(photo.mask_path) for photo in photos]),
            metadata={UPRIGHT: [photo.upright for photo in photos]},
        )
        some = photos_at_most(outputs, photos, list(range(len(photos))), IMAGE_SIZE)
        refined = refine_poses(Img3dImageDataset(some), given)
        poses = refined.camera_to_worlds if refined.is_better else given
        if refined.is_better:
            print_line(f"Poses corrected: they fit to {refined.misfit_after:.1f} pixels now")
        else:
            warn(f"{fits}, and could not be corrected: expect blur; photos alone, without poses, can be solved anew")
        keep_poses(cache_folders(posed.folder, self.config.cache_dir), posed.folder, photos, poses)
        self._may_refine = False
        self._checked[posed.source] = posed, _with_poses(photos, poses)

    def _wants_dense_points(self, num_photos: int) -> bool:
        from img3d_dataparsers.seeds.dense import MAX_PHOTOS

        setting = self.config.seed_points
        return setting == "dense" or setting == "auto" and num_photos <= MAX_PHOTOS

    def _downscaled(self, cameras: Cameras) -> Cameras:
        factor, max_size = self.config.downscale_factor, self.config.max_image_size
        if factor is not None:
            if not factor > 0:
                raise InputError(f"--downscale-factor is {factor}, but must be positive")
            return downscaled(cameras, torch.full_like(cameras.fx, factor))
        if max_size is None:
            return cameras
        if max_size < 1:
            raise InputError(f"--max-image-size is {max_size}, but must be positive")
        return at_most(cameras, max_size)


def _with_poses(photos: list[UsablePhoto], camera_to_worlds: FloatArray) -> list[UsablePhoto]:
    return [replace(photo, camera_to_world=pose) for photo, pose in zip(photos, camera_to_worlds, strict=True)]


def _print_frame(posed: PosedPhotos) -> None:
    """Prints the sources of the world's up axis and scale."""
    lines = []
    if posed.up_source is not None:
        lines.append(f"Upright by {posed.up_source}")
    if posed.scale_source is not None:
        lines.append(f"Exports with --original-frame are in metres, by {posed.scale_source}")
    for line in lines:
        print_line(line)


def _cameras(photos: list[UsablePhoto], camera_to_worlds: FloatArray) -> Cameras:
    def column(name: str) -> torch.Tensor:
        return torch.tensor([getattr(photo.intrinsics, name) for photo in photos])

    cameras = Cameras(
        camera_to_worlds=torch.from_numpy(camera_to_worlds).float(),
        fx=column("fx"),
        fy=column("fy"),
        cx=column("cx"),
        cy=column("cy"),
        width=column("width"),
        height=column("height"),
        distortion_params=column("distortion"),
        camera_type=torch.tensor([photo.intrinsics.camera_type.value for photo in photos]),
        metadata={},  # not None: `ns-export cameras` writes into it
    )
    return with_denominators(cameras, column("denominator"))


def _from_capture(posed: PosedPhotos, transform: FloatArray) -> FloatArray:
    """Transform `[3, 4]` from the original capture to normalised coordinates before Nerfstudio's scale, applied last.

    Frames are `a (A x)` for x in the capture, and outputs are `s (T frame)`; together `s a (R_T A x + t_T / a)`.
    """
    last_scale = np.concatenate([transform[:, :3], transform[:, 3:] / posed.applied_scale], axis=1)
    return last_scale @ np.vstack([posed.applied_transform, [[0.0, 0.0, 0.0, 1.0]]])


def _some(points: SeedPoints | None) -> SeedPoints | None:
    """The finite points; None if there are none."""
    if points is None:
        return None
    xyz, rgb = points
    finite = np.isfinite(xyz).all(axis=-1)
    return (xyz[finite], rgb[finite]) if finite.any() else None


def _normalised(points: SeedPoints, transform: FloatArray, scale: float) -> dict[str, torch.Tensor]:
    """Points in normalised coordinates, under the keys that Nerfstudio's pipeline reads."""
    xyz, rgb = points
    return {
        "points3D_xyz": torch.from_numpy((xyz @ transform[:, :3].T + transform[:, 3]) * scale).float(),
        "points3D_rgb": torch.from_numpy(rgb.copy()),
    }
