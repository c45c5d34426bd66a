# SPDX-License-Identifier: Apache-2.0
"""What makes a fused surface a mesh to work with: no crumbs, no defects, few holes or none, as many faces as wanted."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from img3d_base.errors import InputError

MeshSet = Any
"""pymeshlab's, which has no types."""
MIN_PART = 0.02
"""A separate part with fewer faces than this share of the largest part's is removed."""
SMALL_HOLE = 60
"""Holes with at most this many edges are always closed: no picture saw what is there. Larger ones are openings."""
SMOOTHING = 10
"""Steps of Taubin smoothing (1995), which removes roughness and keeps the volume."""
ATTEMPTS = 5
"""Rounds of repairs at most: one repair can undo a part of another."""

Vertices = Float[np.ndarray, "_ 3"]  # a result has other numbers of them than its argument
Faces = Int[np.ndarray, "_ 3"]


def cleaned(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces]:
    """Without small separate parts, defective faces and non-manifold places; small holes closed, roughness smoothed."""
    vertices, faces = without_crumbs(vertices, faces)
    meshes = _meshlab(vertices, faces)
    _repair(meshes)
    meshes.meshing_close_holes(maxholesize=SMALL_HOLE)
    meshes.apply_coord_taubin_smoothing(stepsmoothnum=SMOOTHING)
    return _current(meshes)


def without_crumbs(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces]:
    """Parts that hang together and are not much smaller than the largest."""
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = coo_matrix((np.ones(len(edges), bool), edges.T), shape=(len(vertices), len(vertices)))
    _, part_of_vertex = connected_components(graph, directed=False)
    part = part_of_vertex[faces[:, 0]]
    sizes = np.bincount(part, minlength=1)
    return compacted(vertices, faces[sizes[part] >= MIN_PART * sizes.max()])


def compacted(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces]:
    """Without vertices that no face has."""
    used, renumbered = np.unique(faces, return_inverse=True)
    return vertices[used], renumbered.reshape(-1, 3)


def decimated(vertices: Vertices, faces: Faces, target: int) -> tuple[Vertices, Faces]:
    """So many faces at most, by collapsing the edges whose loss is seen least (Garland and Heckbert 1997)."""
    if len(faces) <= target:
        return vertices, faces
    meshes = _meshlab(vertices, faces)
    meshes.meshing_decimation_quadric_edge_collapse(
        targetfacenum=target, preserveboundary=True, preservenormal=True, preservetopology=True, planarquadric=True
    )
    vertices, faces = _current(meshes)
    if len(faces) > target:  # what is to be preserved stands in the way: holes, many parts
        import open3d as o3d

        mesh = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(faces))
        mesh = mesh.simplify_quadric_decimation(target)
        vertices, faces = compacted(np.asarray(mesh.vertices), np.asarray(mesh.triangles).astype(np.int64))
    return vertices, faces


def watertight(vertices: Vertices, faces: Faces, target: int, detail: float) -> tuple[Vertices, Faces]:
    """At most so many faces, without any hole, doubled edge or face that cuts another.

    Holes are closed. Where that cannot be, as of a scene open at the back, the surface is wrapped from all sides
    (Portaneri et al. 2022, "Alpha Wrapping with an Offset"): it becomes a sheet with a thickness.

    Args:
        vertices: Of a surface.
        faces: Counter-clockwise as seen from outside.
        target: How many faces at most.
        detail: Length of what need not be kept: gaps twice as wide are not entered when wrapping.

    Raises:
        InputError: It could not be had.
    """
    found = _watertight_by_repair(vertices, faces, target)
    if found is None:
        import pymeshlab

        library: Any = pymeshlab
        meshes = _meshlab(vertices, faces)
        meshes.generate_alpha_wrap(alpha=library.PureValue(2 * detail), offset=library.PureValue(0.5 * detail))
        found = _watertight_by_repair(*_current(meshes), target)
    if found is None:
        raise InputError("The mesh could not be made watertight: try more --faces, or another --resolution.")
    return found


def _watertight_by_repair(vertices: Vertices, faces: Faces, target: int) -> tuple[Vertices, Faces] | None:
    for _ in range(ATTEMPTS):
        vertices, faces = decimated(*_closed(vertices, faces), target)
        if is_watertight(vertices, faces):
            return vertices, faces
        vertices, faces = _without_cutting_others(vertices, faces)
        if len(faces) == 0:
            break
    return None


def is_watertight(vertices: Vertices, faces: Faces) -> bool:
    """Whether it bounds a solid: closed, manifold, faces all turned outward alike, none cutting another."""
    import trimesh

    if not trimesh.Trimesh(vertices, faces, process=False).is_watertight:
        return False
    topology = _meshlab(vertices, faces).get_topological_measures()
    if not topology["is_mesh_two_manifold"] or topology["non_two_manifold_vertices"] > 0:
        return False
    meshes = _cutting_others_selected(vertices, faces)
    return meshes.current_mesh().selected_face_number() == 0


def _cutting_others_selected(vertices: Vertices, faces: Faces) -> MeshSet:
    meshes = _meshlab(vertices, faces)
    meshes.compute_selection_by_self_intersections_per_face()
    return meshes


def _without_cutting_others(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces]:
    """Holes where faces cut others, and around."""
    meshes = _cutting_others_selected(vertices, faces)
    meshes.apply_selection_dilatation()
    meshes.meshing_remove_selected_faces()
    return without_crumbs(*_current(meshes))


def _closed(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces]:
    meshes = _meshlab(vertices, faces)
    for _ in range(ATTEMPTS):
        _repair(meshes)
        edges_at_holes = meshes.get_topological_measures()["boundary_edges"]
        if edges_at_holes == 0:
            break
        meshes.meshing_close_holes(maxholesize=edges_at_holes + 1)
    meshes.meshing_re_orient_faces_coherently()
    return _current(meshes)


def _repair(meshes: MeshSet) -> None:
    meshes.meshing_remove_duplicate_vertices()
    meshes.meshing_remove_duplicate_faces()
    meshes.meshing_remove_null_faces()
    meshes.meshing_repair_non_manifold_edges(method="Remove Faces")
    meshes.meshing_repair_non_manifold_vertices()
    meshes.meshing_remove_unreferenced_vertices()


def _meshlab(vertices: Vertices, faces: Faces) -> MeshSet:
    import pymeshlab

    library: Any = pymeshlab
    meshes = library.MeshSet()
    meshes.add_mesh(library.Mesh(vertices, faces))
    return meshes


def _current(meshes: MeshSet) -> tuple[Vertices, Faces]:
    mesh = meshes.current_mesh()
    return compacted(mesh.vertex_matrix(), mesh.face_matrix().astype(np.int64))
