// SPDX-License-Identifier: Apache-2.0
// All kernels for one instruction set: compiled once per set, with IMG3D_ISA as the namespace. Everything except the
// table is in unnamed namespaces, so that the linker never shares functions between instruction sets.
#include "common/adam.h"
#include "fields/guided_sampling.h"
#include "fields/block_sampling.h"
#include "fields/loss.h"
#include "fields/marching.h"
#include "fields/rendering.h"
#include "fields/surface_normals.h"
#include "fields/visible_samples.h"
#include "kernels.h"
#include "common/l1_ssim.h"
#include "splats/composite_rays.h"
#include "splats/project.h"
#include "splats/rasterize.h"
#include "common/simd.h"
#include "stereo/patch_match.h"

#define IMG3D_STRING_(x) #x
#define IMG3D_STRING(x) IMG3D_STRING_(x)

namespace IMG3D_ISA {

extern const img3d::KernelTable table;
const img3d::KernelTable table = {
    IMG3D_STRING(IMG3D_ISA) + 4,  // without "isa_"
    W,
    project_forward, project_backward, rasterize_forward, rasterize_backward, composite_rays, l1_ssim, adam_step,
    field_density, field_surface_normals, field_march, field_guided_samples,
    {field_march_visible, field_loss, field_render, field_render_samples, field_render_blocks, field_block_samples},
    patch_match,
};

}  // namespace IMG3D_ISA
