# SPDX-License-Identifier: Apache-2.0
"""Every compiled kernel on small random inputs, each argument by its name; also as a process of its own.

    python every_kernel.py EXTENSION OUTPUT.npz

loads the extension from its file, without torch, and writes all results and the instruction set that was used.
"""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
N, CAMERAS, WIDTH, HEIGHT = 300, 2, 53, 37
"""Some Gaussians, and images that end within a tile and within a vector."""


def float_arrays(**shapes: tuple[int, ...]) -> dict[str, Array]:
    """Zeros of these shapes, by name."""
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def projection(random: np.random.Generator) -> dict[str, Any]:
    """What `project_forward` and `project_backward` take: Gaussians with harmonics of degree 3 before two cameras."""
    viewmats = np.tile(np.eye(4, dtype=np.float32), (CAMERAS, 1, 1))
    viewmats[:, 2, 3] = 4.0, 5.0
    K = np.array([[45, 0, 25], [0, 50, 20], [0, 0, 1]], np.float32)
    return {
        "means": random.normal(0, 0.8, (N, 3)).astype(np.float32),
        "quats": random.normal(0, 1, (N, 4)).astype(np.float32),
        "scales": random.uniform(0.03, 0.3, (N, 3)).astype(np.float32),
        "opacities": random.uniform(0.1, 0.95, N).astype(np.float32),
        "sh": random.normal(0, 0.5, (N, 1, 3)).astype(np.float32),
        "sh_rest": random.normal(0, 0.2, (N, 15, 3)).astype(np.float32),
        "sh_degree": 3,
        "viewmats": viewmats,
        "camera_centers": np.ascontiguousarray(-viewmats[:, :3, 3]),
        "Ks": np.tile(K, (CAMERAS, 1, 1)),
        "width": WIDTH,
        "height": HEIGHT,
        "near_plane": 0.01,
        "far_plane": 1e10,
        "radius_clip": 0.0,
        "eps2d": 0.3,
        "antialiased": True,
    }


def calls(extension: Any, seed: int = 0, bfloat16: bool = False) -> dict[str, tuple[dict[str, Any], dict[str, Array]]]:
    """For each kernel what it is called with: its inputs, and the arrays that it writes; all by their names.

    Inputs of later kernels are what earlier ones wrote: the kernels run here, in this order, once.
    """
    random = np.random.default_rng(seed)
    found: dict[str, tuple[dict[str, Any], dict[str, Array]]] = {}

    def run(name: str, inputs: dict[str, Any], outputs: dict[str, Array]) -> Any:
        found[name] = inputs, outputs
        return getattr(extension, name)(**inputs, **outputs)

    def normal(*shape: int) -> Array:
        return random.normal(0, 1, shape).astype(np.float32)

    inputs = projection(random)
    many = (CAMERAS, N)
    projected = {
        "radii": np.zeros(many, np.int32),
        **float_arrays(means2d=(*many, 2), depths=many, conics=(*many, 3), opacities2d=many, colors=(*many, 3)),
    }
    run("project_forward", inputs, projected)

    one = {name: array[0] for name, array in projected.items()}
    image = float_arrays(render=(HEIGHT, WIDTH, 3), alpha=(HEIGHT, WIDTH))
    blended = {
        **{name: one[name] for name in ("means2d", "conics", "colors", "radii", "depths")},
        "opacities": one["opacities2d"],
        "background": np.array([0.2, 0.4, 0.6], np.float32),
        "width": WIDTH,
        "height": HEIGHT,
        "for_backward": True,
    }
    state = run("rasterize_forward", blended, image)
    gradients = float_arrays(v_means2d=(N, 2), v_conics=(N, 3), v_colors=(N, 3), v_opacities=(N,), v_means2d_abs=(N, 2))
    by_image = {"v_render": normal(HEIGHT, WIDTH, 3), "v_alpha": normal(HEIGHT, WIDTH)}
    run("rasterize_backward", {"state": state, **image, **by_image}, gradients)

    by_projected = {
        "radii": projected["radii"],
        "v_means2d": normal(*many, 2),
        "v_depths": normal(*many),
        "v_conics": 0.01 * normal(*many, 3),
        "v_opacities2d": normal(*many),
        "v_colors": normal(*many, 3),
        "v_means2d_abs": np.abs(normal(*many, 2)),
    }
    by_gaussians = float_arrays(
        v_means=(N, 3), v_quats=(N, 4), v_scales=(N, 3), v_opacities=(N,), v_sh=(N, 1, 3), v_sh_rest=(N, 15, 3)
    )
    by_cameras = float_arrays(v_viewmats=(CAMERAS, 4, 4), v_camera_centers=(CAMERAS, 3))
    statistics = float_arrays(grad2d=(N,), grad_count=(N,), max_radii=(N,))
    run("project_backward", {**inputs, **by_projected}, {**by_gaussians, **by_cameras, **statistics})

    pictures = {name: random.uniform(0, 1, (HEIGHT, WIDTH, 3)).astype(np.float32) for name in ("render", "target")}
    v_render = float_arrays(v_render=(HEIGHT, WIDTH, 3))
    mask = pictures["target"][..., 0].copy()
    v_render["loss"] = np.array(run("l1_ssim", {**pictures, "ssim_lambda": 0.2, "mask": mask}, v_render), np.float32)

    moved = {"param": normal(N, 3), "exp_avg": normal(N, 3), "exp_avg_sq": np.abs(normal(N, 3))}
    grad = normal(N, 3)
    grad[::3] = 0
    rates = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-15, "step": 3, "skip_zero_rows": True}
    run("adam_step", {"grad": grad, **rates}, moved)

    field = extension.FieldArrays(
        table=normal(3, 4096, 2),
        networks=0.2 * normal(6 + 32 + 64 + 3, 64),
        resolutions=[4, 16, 200],
        density_bias=0.0,
        contracted=True,
        low=[-2.0] * 3,
        high=[2.0] * 3,
        occupied=np.full(16**3 // 32, -1, np.int32),
        grid_size=16,
        bfloat16=bfloat16,
    )
    directions = normal(N, 3)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    ends = {"nears": np.full(N, 0.05, np.float32), "fars": np.full(N, 30, np.float32)}
    rays = {"field": field, "origins": 0.3 * normal(N, 3), "directions": directions}
    run("field_density", {"field": field, "points": normal(N, 3)}, float_arrays(density=(N,)))
    sampled = {"counts": np.zeros(N, np.int32), **float_arrays(middles=(N, 12), lengths=(N, 12))}
    offsets = random.uniform(0, 1, N).astype(np.float32)
    visible = {name: array.copy() for name, array in sampled.items()}
    run("field_march_visible", {**rays, **ends, "offsets": offsets, "step": 0.1}, visible)
    run("field_march", {**rays, **ends, "offsets": offsets, "step": 0.1}, sampled)
    lit = {**rays, "features": normal(N, 64)}
    colors = {name: random.uniform(0, 1, (N, 3)).astype(np.float32) for name in ("targets", "backgrounds")}
    learned = float_arrays(v_table=(3, 4096, 2), v_networks=(6 + 32 + 64 + 3, 64), v_features=(N, 64))
    learned |= float_arrays(v_origins=(N, 3), v_directions=(N, 3), rgb=(N, 3))
    losses = {"distortion": 0.1, "near_scaling": True}
    along = {name: array.copy() for name, array in sampled.items()}
    learned |= {"heaviest": np.zeros(16**3, np.float32)}
    learned["loss"] = np.array(run("field_loss", {**lit, **along, **colors, **losses}, learned), np.float32)
    seen = float_arrays(rgb=(N, 3), accumulation=(N,), depth=(N,))
    run(
        "field_render",
        {**lit, **ends, "width": 0, "step": 0.1, "sharing_weight": 0.05},
        {name: array.copy() for name, array in seen.items()},
    )
    picture = {name: array.copy() for name, array in seen.items()}
    run("field_render_samples", {**lit, **along, "width": N // 2, "sharing_weight": 0.05}, seen)
    normals = float_arrays(normals=(N, 3))
    run("field_surface_normals", {**rays, "depth": ends["nears"], "distance": 0.01}, normals)
    guide = {"weights": random.uniform(0, 1, 16**3).astype(np.float32), "num_bins": 40, "explored": 0.3}
    placed = {"counts": np.zeros(N, np.int32), **float_arrays(middles=(N, 12), lengths=(N, 12))}
    run("field_guided_samples", {**rays, **ends, "offsets": offsets, **guide}, placed)
    blocks, shape = -(-(N // 4) // 4), {"width": N // 4, "block_side": 4}
    shared = {"counts": np.zeros(blocks, np.int32), **float_arrays(middles=(blocks, 12), lengths=(blocks, 12))}
    run("field_block_samples", {**rays, **ends, **shape, **guide, "least_weight": 0.02}, shared)
    run("field_render_blocks", {**lit, **shape, **shared, "sharing_weight": 0.05}, picture)

    # A wall at depth 5 with a pattern, from two places.
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    picture = 127 + 60 * np.sin(0.9 * x + 0.2 * y) + 60 * np.sin(0.7 * y - 0.3 * x)
    shifted = np.round(127 + 60 * np.sin(0.9 * (x - 2) + 0.2 * y) + 60 * np.sin(0.7 * y - 0.3 * (x - 2)))
    quads = sum(np.roll(shifted, (-(i // 2), -(i % 2)), (0, 1)).astype(np.uint32) << (8 * i) for i in range(4)).view(
        np.int32
    )
    identity = np.eye(3).flatten()
    planes = float_arrays(planes=(HEIGHT, WIDTH, 3), costs=(HEIGHT, WIDTH))
    planes["planes"][..., 0] = random.uniform(0.1, 0.4, (HEIGHT, WIDTH))
    seen = {
        "image": picture.astype(np.float32),
        "mask": (random.uniform(0, 1, (HEIGHT, WIDTH)) > 0.1).astype(np.uint8),
        **{"fx": 50.0, "fy": 50.0, "cx": 26.0, "cy": 18.0},
        "quads": [quads, quads],
        "projections": np.tile(np.float32([*identity, 10, 0, 0, *identity, -10, 0, 0]), (2, 1)),
        "masks": [(random.uniform(0, 1, (HEIGHT, WIDTH)) > 0.1).astype(np.uint8)] * 2,
        "depths": [np.full((HEIGHT, WIDTH), 5, np.float32)] * 2,
        **{"min_inverse_depth": 0.1, "max_inverse_depth": 0.4},
        **{"iterations": 1, "random_iterations": 1, "seed": 1},
    }
    run("patch_match", seen, planes)

    rotations = np.linalg.qr(normal(N, 3, 3))[0].astype(np.float32)
    gaussians = {name: inputs[name] for name in ("means", "scales", "opacities")}
    gaussians |= {"rotations": rotations, "colors": np.concatenate([inputs["sh"], inputs["sh_rest"]], axis=1)}
    several = {**ends, "origins": 2 * rays["origins"], "directions": directions}
    several["pixel_pitch"] = np.full(N, 0.02, np.float32)
    gathered = float_arrays(rgb=(N, 3), passing=(N,), distance=(N,), normals=(N, 3))
    run("composite_rays", {**gaussians, **several, "sh_degree": 3, "eps2d": 0.3}, gathered)
    return found


def results(extension: Any, bfloat16: bool = False) -> dict[str, Array]:
    """What all kernels write, by kernel and argument."""
    called = calls(extension, bfloat16=bfloat16)
    return {f"{kernel} {name}": array for kernel, (_, outputs) in called.items() for name, array in outputs.items()}


def main() -> None:
    """As a process: see the top."""
    spec = spec_from_file_location("img3d_kernels._C", sys.argv[1])
    assert spec is not None and spec.loader is not None
    extension = module_from_spec(spec)
    spec.loader.exec_module(extension)
    np.savez(sys.argv[2], isa=np.array(extension.isa()), **results(extension, "bfloat16" in sys.argv[3:]))


if __name__ == "__main__":
    main()
