# SPDX-License-Identifier: Apache-2.0
"""Turns a fused surface into a usable mesh: without small fragments and defects, with few or no holes, and with a
limited number of faces."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from img3d_base.errors import InputError

MeshSet = Any
"""pymeshlab's class, which has no type annotations."""
MIN_PART = 0.02
"""Minimum number of faces of a separate part, relative to the largest part; smaller ones are removed."""
MAX_HOLE = 60
"""Maximum number of edges of a hole that is always closed: no picture showed what is there. Larger holes are openings
of the object."""
SMOOTHING = 10
"""Steps of Taubin smoothing (1995), which removes roughness and preserves volume."""
MAX_ATTEMPTS = 5
"""Maximum number of rounds of repairs, since one repair can partly undo another."""

Vertices = Float[np.ndarray, "_ 3"]  # numbers differ between arguments and results
Faces = Int[np.ndarray, "_ 3"]


def cleaned(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces]:
    """Removes small separate parts, defective faces and non-manifold geometry, closes small holes and smooths
    roughness."""
    vertices, faces = without_crumbs(vertices, faces)
    meshes = _meshlab(vertices, faces)
    _repair(meshes)
    meshes.meshing_close_holes(maxholesize=MAX_HOLE)
    meshes.apply_coord_taubin_smoothing(stepsmoothnum=SMOOTHING)
    return _current(meshes)


def without_crumbs(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces]:
    """Keeps connected parts that are not much smaller than the largest."""
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = coo_matrix((np.ones(len(edges), bool), edges.T), shape=(len(vertices), len(vertices)))
    _, part_of_vertex = connected_components(graph, directed=False)
    part = part_of_vertex[faces[:, 0]]
    sizes = np.bincount(part, minlength=1)
    return compacted(vertices, faces[sizes[part] >= MIN_PART * sizes.max()])


def compacted(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces]:
    """Removes vertices without faces."""
    used, renumbered = np.unique(faces, return_inverse=True)
    return vertices[used], renumbered.reshape(-1, 3)


def decimated(vertices: Vertices, faces: Faces, target: int) -> tuple[Vertices, Faces]:
    """Reduces the mesh to at most `target` faces, by collapsing edges with the least quadric error (Garland and
    Heckbert 1997)."""
    if len(faces) <= target:
        return vertices, faces
    meshes = _meshlab(vertices, faces)
    meshes.meshing_decimation_quadric_edge_collapse(
        targetfacenum=target, preserveboundary=True, preservenormal=True, preservetopology=True, planarquadric=True
    )
    vertices, faces = _current(meshes)
    if len(faces) > target:  # the preserved features prevent it: holes, many parts
        import open3d as o3d

        mesh = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(faces))
        mesh = mesh.simplify_quadric_decimation(target)
        vertices, faces = compacted(np.asarray(mesh.vertices), np.asarray(mesh.triangles).astype(np.int64))
    return vertices, faces


def watertight(vertices: Vertices, faces: Faces, target: int, detail: float) -> tuple[Vertices, Faces]:
    """Makes the mesh watertight: at most `target` faces, without holes, duplicate edges or self-intersections.

    Holes are closed. If that is impossible, as for a scene that is open at the back, the surface is wrapped from all
    sides (Portaneri et al. 2022, "Alpha Wrapping with an Offset") and becomes a sheet with a thickness.

    Args:
        vertices: The surface's vertices.
        faces: Counter-clockwise as seen from outside.
        target: Maximum number of faces.
        detail: Length of details that may be lost: wrapping does not enter gaps narrower than twice this.

    Raises:
        InputError: The mesh could not be made watertight.
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
    """The mesh with its holes closed; None if it is not watertight after `MAX_ATTEMPTS`."""
    for _ in range(MAX_ATTEMPTS):
        vertices, faces = decimated(*_closed(vertices, faces), target)
        if is_watertight(vertices, faces):
            return vertices, faces
        vertices, faces = _without_cutting_others(vertices, faces)
        if len(faces) == 0:
            break
    return None


def is_watertight(vertices: Vertices, faces: Faces) -> bool:
    """Whether the mesh bounds a solid: closed, manifold, consistently oriented, without self-intersections."""
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
    """Removes self-intersecting faces and their neighbours, which leaves holes."""
    meshes = _cutting_others_selected(vertices, faces)
    meshes.apply_selection_dilatation()
    meshes.meshing_remove_selected_faces()
    return without_crumbs(*_current(meshes))


def _closed(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces]:
    """The mesh with its holes closed, as far as MeshLab can, and consistently oriented."""
    meshes = _meshlab(vertices, faces)
    for _ in range(MAX_ATTEMPTS):
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
