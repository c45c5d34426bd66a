// SPDX-License-Identifier: Apache-2.0
// The kernels of a field's networks with bfloat16 factors: compiled once for each set of instructions that has such
// products, with IMG3D_ISA as the namespace.
#include "fields/block_sampling.h"
#include "fields/loss.h"
#include "fields/rendering.h"
#include "fields/visible_samples.h"
#include "kernels.h"

namespace IMG3D_ISA {

extern const img3d::NetworkKernels networks;
const img3d::NetworkKernels networks = {field_march_visible,  field_loss,          field_render,
                                         field_render_samples, field_render_blocks, field_block_samples};

}  // namespace IMG3D_ISA
