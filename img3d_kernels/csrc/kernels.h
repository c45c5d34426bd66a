// SPDX-License-Identifier: Apache-2.0
// The kernels' C++ interface: plain pointers to row-major float32 arrays, with the shapes of the Python side. There is one
// table of functions per instruction set; dispatch.cpp selects the best that the processor supports.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/scratch.h"

namespace img3d {

constexpr int TILE_SIZE = 16;
constexpr int MAX_CHANNELS = 4;

// As in gsplat 1.4; torch_backend.py explains them.
constexpr float MAX_ALPHA = 0.999f;
constexpr float MIN_ALPHA = 1.0f / 255.0f;
constexpr float MIN_TRANSMITTANCE = 1e-4f;
constexpr float FOV_MARGIN = 0.3f;
constexpr float MAX_RADIUS = 1e9f;

struct ProjectInputs {
  size_t n_gaussians, n_cameras;
  const float* means;      // [N, 3]
  const float* quats;      // [N, 4] wxyz, not normalised
  const float* scales;     // [N, 3]
  const float* opacities;  // [N]
  // Coefficients of spherical harmonics: degree 0 [N, 1, 3] (null: none), and the rest [N, K - 1, 3]. They may be in one
  // array or in two, hence the strides: floats from one Gaussian to the next.
  const float* sh0;
  const float* sh_rest;
  size_t sh0_stride, sh_rest_stride;
  int sh_rest_size;  // (K - 1) * 3
  int sh_degree;
  const float* viewmats;        // [C, 4, 4]
  const float* camera_centers;  // [C, 3]; with sh
  const float* Ks;              // [C, 3, 3]
  int width, height;
  float near_plane, far_plane, radius_clip, eps2d;
  bool antialiased;
};

struct ProjectOutputs {
  int32_t* radii;    // [C, N]
  float* means2d;    // [C, N, 2]
  float* depths;     // [C, N]
  float* conics;     // [C, N, 3]
  float* opacities;  // [C, N]
  float* colors;     // [C, N, 3]; with sh
};

// Statistics for densification, accumulated over steps as in gsplat's DefaultStrategy._update_state.
struct GradStats {
  const float* v_means2d_abs;  // [C, N, 2]; null: use the gradient itself
  float* grad2d;               // [N]: += norm, in half image sizes; null: no statistics
  float* count;                // [N]: += 1 for each camera that sees it
  float* max_radii;            // [N]: maximum of the radius over the image's longer side; or null
};

struct ProjectGradients {
  // Gradients of the outputs.
  const int32_t* radii;
  const float* v_means2d;
  const float* v_depths;
  const float* v_conics;
  const float* v_opacities;
  const float* v_colors;
  // Gradients of the inputs; every element is written.
  float* v_means;
  float* v_quats;
  float* v_scales;
  float* v_opacities_in;
  float* v_sh0;  // with the strides of the inputs
  float* v_sh_rest;
  float* v_viewmats;        // [C, 4, 4] or null
  float* v_camera_centers;  // [C, 3] or null
  GradStats stats;
};

struct RasterizeInputs {
  size_t n_gaussians;
  const float* means2d;
  const float* conics;
  const float* colors;  // [N, channels]
  const float* opacities;
  const int32_t* radii;
  const float* depths;
  int channels, width, height;
  const float* background;  // [channels] or null
  bool for_backward;        // a backward pass will follow
};

struct RasterizeGradients {
  int channels, width, height;
  const float* render;    // [H, W, channels]
  const float* alpha;     // [H, W]
  const float* v_render;  // [H, W, channels]
  const float* v_alpha;   // [H, W]
  // Gradients of the inputs. The caller initialises them with zeros: only Gaussians in view are written.
  float* v_means2d;
  float* v_conics;
  float* v_colors;
  float* v_opacities;
  float* v_means2d_abs;  // or null
};

// Gaussians along arbitrary rays, neighbours next to each other.
struct CompositeInputs {
  size_t n_gaussians, n_rays;
  const float* means;      // [N, 3]
  const float* rotations;  // [N, 3, 3]: columns are the Gaussian's axes
  const float* scales;     // [N, 3]
  const float* opacities;  // [N]
  const float* colors;     // [N, 3], or [N, K, 3] coefficients of spherical harmonics
  size_t color_stride;     // floats from one Gaussian to the next
  int sh_degree;           // -1: no harmonics
  const float* origins;      // [R, 3]
  const float* directions;   // [R, 3], of unit length
  const float* nears;        // [R]
  const float* fars;         // [R]
  const float* pixel_pitch;  // [R]: distance between neighbouring pixels' rays at distance 1
  float eps2d;               // variance that a pixel adds, in pixels squared
};

// Sums over each ray's Gaussians, weighted with the light that they absorb.
struct CompositeOutputs {
  float* rgb;       // [R, 3]
  float* passing;   // [R]: light that passes all of them
  float* distance;  // [R]
  float* normals;   // [R, 3]: of the axes along which they are thinnest, turned towards the origins
};

struct L1SsimInputs {
  int width, height;
  const float* render;          // [H, W, 3]
  const float* target;          // [H, W, 3]; or null, and then
  const uint8_t* target_bytes;  // [H, W, 3], from 0 to 255
  const float* mask;            // [H, W], multiplied into both images; or null
  float ssim_lambda;
  float* v_render;  // [H, W, 3]: gradient of the loss; or null
};

struct AdamInputs {
  size_t n_rows, row_size;
  float* param;
  const float* grad;
  float* exp_avg;
  float* exp_avg_sq;
  float lr, beta1, beta2, eps;
  int64_t step;
  bool skip_zero_rows;
};

constexpr int ATTENTION_CHANNELS = 64;  // of a head

// B sets of T queries and S keys of H heads, in bfloat16.
struct AttentionInputs {
  size_t n_batch, n_queries, n_keys, n_heads;
  const uint16_t* queries;  // [B, T, H, 64]
  const uint16_t* keys;     // [B, S, H, 64]
  const uint16_t* values;   // [B, S, H, 64]
  uint16_t* found;          // [B, T, H, 64]
};

constexpr int HIDDEN = 64;          // width of a field's networks
constexpr int GEOMETRY = 16;        // outputs of the density network; the first is the logarithm of the density
constexpr int MAX_LEVELS = 16;      // of a field's hash grid
constexpr int MAX_RAY_SAMPLES = 512;
constexpr float MAX_LOG_DENSITY = 15.0f;

// Where a field has features, and which cells of it may be dense. World coordinates, contracted or not, are mapped from
// [low, high] to the unit cube.
struct FieldSpace {
  bool contracted;  // all of space into [-2, 2]^3, with the maximum norm
  float low[3], high[3];
  size_t grid_size;            // cells along an axis
  const uint32_t* occupied;    // [grid_size^3 / 32]: a bit for each cell, x slowest; or null: all are
};

struct FieldInputs {
  FieldSpace space;
  size_t n_levels, table_size;
  const int32_t* resolutions;  // [L]
  const float* table;          // [L, T, 2]
  // [2 L + 16 + 16 + 64 + 3, 64]: rows of the density network's layers (by input, by output) and of the colour
  // network's (by input, by input, by output).
  const float* networks;
  float density_bias;  // added to the logarithm of the density
};

struct FieldRays {
  size_t n_rays;
  size_t width;             // of the picture whose pixels the rays are, row by row; 0: they are no whole rows of a picture
  const float* origins;     // [R, 3]
  const float* directions;  // [R, 3], of unit length
  const float* features;    // [R, 64]: added to the colour network's first layer
};

// Where rays begin and end, to place samples along them.
struct RayEnds {
  size_t n_rays;
  const float* origins;     // [R, 3]
  const float* directions;  // [R, 3], of unit length
  const float* nears;       // [R]
  const float* fars;        // [R]
  const float* offsets;     // [R], in [0, 1): shares of a sample by which the samples are moved; or null: 0.5
};

// Steps along a ray, all of the same length.
struct MarchInputs {
  FieldSpace space;
  RayEnds ends;
  size_t max_samples;
  float step;
};

constexpr size_t MAX_BINS = 512;

struct GuidedInputs {
  FieldSpace space;      // its occupied cells do not matter
  RayEnds ends;
  const float* weights;  // [grid_size^3], x slowest: how much samples in a cell have weighed
  size_t n_bins, n_samples;
  float explored;        // weight that is spread over all bins of a ray
};

// At most S samples of each ray, in order.
struct RaySamples {
  size_t max_samples;      // S
  const int32_t* counts;   // [R]
  const float* middles;    // [R, S], distances along the ray
  const float* lengths;    // [R, S]
};

// The rays of a picture in blocks of so many pixels on each side, which share samples. Blocks at the right and lower edge
// may be smaller.
struct PictureBlocks {
  size_t width, side;

  size_t across() const { return (width + side - 1) / side; }
  size_t of(size_t ray) const { return ray / width / side * across() + ray % width / side; }
};

struct FieldLossInputs {
  const float* targets;      // [R, 3]
  const float* backgrounds;  // [R, 3]
  float distortion;          // factor of the distortion loss
  bool near_scaling;         // gradients of samples nearer than 1 are scaled with the square of the distance
  float* heaviest;           // [grid_size^3], raised to the highest weight of the samples in each cell; or null
};

struct FieldGradients {
  float* v_table;         // [L, T, 2]
  float* v_networks;      // as the networks
  float* v_ray_features;  // [R, 64]
  float* v_origins;       // [R, 3], or null
  float* v_directions;    // [R, 3], or null; not through the ray's features
};

// What rays see: premultiplied colour, absorbed share of the light, distance at which half of it is absorbed (0: never).
struct FieldPicture {
  float* rgb;           // [R, 3]
  float* accumulation;  // [R]
  float* depth;         // [R]
};

constexpr size_t MAX_SOURCES = 32;

// A picture that a reference picture is compared with. Pixel centres are at whole numbers. The reference's pixel (x, y)
// with inverse depth d is at A (x, y, 1) + b d, and the other way round with back_A and back_b; both homogeneous.
struct StereoSource {
  int width, height;
  const uint32_t* quads;  // [H, W]: grey values of the pixel, and of those to its right, below, and below right
  const uint8_t* mask;    // [H, W], 0 where there is nothing to compare with; or null
  const float* depth;     // [H, W], 0 where unknown; or null: no geometric term
  float A[9], b[3], back_A[9], back_b[3];
};

struct PatchMatchInputs {
  int width, height;
  const float* image;   // [H, W], grey values from 0 to 255
  const uint8_t* mask;  // [H, W], 0 where there is nothing to find; or null
  float fx, fy, cx, cy;
  size_t n_sources;
  const StereoSource* sources;
  float min_inverse_depth, max_inverse_depth;
  int iterations, random_iterations;  // in the latter, planes are tried that have nothing to do with any found before
  uint32_t seed;
};

// The kernels that evaluate a field's networks.
struct NetworkKernels {
  // Places samples up to where a ray is opaque.
  void (*march_visible)(const FieldInputs&, const MarchInputs&, int32_t* counts, float* middles, float* lengths);
  // Writes the colour loss and the distortion loss, means over the rays, and the colours [R, 3] over the backgrounds.
  void (*loss)(const FieldInputs&, const FieldRays&, const RaySamples&, const FieldLossInputs&, const FieldGradients&,
               float* losses, float* rgb, Scratch&);
  // Samples in a row share a colour until they have the weight `sharing_weight`.
  void (*render)(const FieldInputs&, const FieldRays&, const MarchInputs&, float sharing_weight, const FieldPicture&);
  void (*render_samples)(const FieldInputs&, const FieldRays&, const RaySamples&, float sharing_weight,
                         const FieldPicture&);
  // Renders whole rows of a picture; the samples are those of their blocks.
  void (*render_blocks)(const FieldInputs&, const FieldRays&, const RaySamples&, size_t block_side, float sharing_weight,
                        const FieldPicture&);
  // Places samples for blocks of a picture, without those that weigh less than `least_weight` in one ray of the block and
  // of its neighbours; [B], [B, S], [B, S].
  void (*block_samples)(const FieldInputs&, const GuidedInputs&, const PictureBlocks&, float least_weight, int32_t* counts,
                        float* middles, float* lengths, Scratch&);
};

struct KernelTable {
  const char* isa;
  int lanes;  // floats in a vector
  void (*project_forward)(const ProjectInputs&, const ProjectOutputs&);
  void (*project_backward)(const ProjectInputs&, const ProjectGradients&, Scratch&);
  void (*rasterize_forward)(const RasterizeInputs&, RasterScratch&, float* render, float* alpha);
  void (*rasterize_backward)(const RasterizeGradients&, RasterScratch&);
  void (*composite_rays)(const CompositeInputs&, const CompositeOutputs&, Scratch&);
  float (*l1_ssim)(const L1SsimInputs&, Scratch&);
  void (*adam_step)(const AdamInputs&);
  void (*field_density)(const FieldInputs&, size_t n_points, const float* points, float* density);  // [N, 3], [N]
  // Unit normals [R, 3] at depth [R] along rays, [R, 3] each; 0 where the depth is.
  void (*field_surface_normals)(const FieldInputs&, size_t n_rays, const float* origins, const float* directions,
                                const float* depth, float distance, float* normals);
  void (*field_march)(const MarchInputs&, int32_t* counts, float* middles, float* lengths);
  void (*field_guided_samples)(const GuidedInputs&, int32_t* counts, float* middles, float* lengths);
  NetworkKernels networks;
  void (*patch_match)(const PatchMatchInputs&, float* planes, float* costs);  // [H, W, 3], [H, W]
};

const KernelTable& kernels();
const KernelTable* find_kernels(const char* isa);  // null if this build or this processor lacks it

// Needs instructions that only some processors with AVX-512 have, beside those of `kernels()`: null without them.
using AttentionKernel = void (*)(const AttentionInputs&, Scratch&);
AttentionKernel attention_kernel();
// With bfloat16 factors of the networks' products.
const NetworkKernels* bfloat16_networks();

}  // namespace img3d
