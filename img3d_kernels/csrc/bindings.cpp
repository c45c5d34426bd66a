// SPDX-License-Identifier: Apache-2.0
// Python bindings of the kernels, for CPU arrays (DLPack: torch tensors, NumPy arrays). Shapes are checked here only;
// the GIL is released while a kernel runs.
#include "bindings.h"

#include <nanobind/stl/string.h>

#include <algorithm>

#include "common/thread_pool.h"

using namespace nb::literals;
using namespace img3d;

namespace {

// Never destroyed: a RasterState may be collected after static destructors have run.
Recycler<RasterScratch>& raster_scratches() {
  static auto* recycler = new Recycler<RasterScratch>;
  return *recycler;
}

// State that a forward pass keeps for its backward pass.
struct RasterState {
  std::unique_ptr<RasterScratch> scratch = raster_scratches().take();
  int channels = 0, width = 0, height = 0;
  size_t n_gaussians = 0;
  bool for_backward = false;

  // Number of (pixel, Gaussian) pairs that were evaluated: in whole vectors, whether or not a pixel is in the ellipse.
  size_t n_pixel_pairs() const {
    require(for_backward, "n_pixel_pairs needs a forward pass with for_backward");
    const size_t tiles = static_cast<size_t>((width + TILE_SIZE - 1) / TILE_SIZE) * ((height + TILE_SIZE - 1) / TILE_SIZE);
    const uint64_t* blocks = scratch->pair_blocks.data<uint64_t>();
    const uint64_t* end = blocks + scratch->tile_begin.data<uint64_t>()[tiles];
    size_t count = 0;
    for (; blocks < end; ++blocks) count += __builtin_popcountll(*blocks);
    return count * kernels().lanes;
  }
  ~RasterState() { give_back(raster_scratches(), std::move(scratch)); }
};

ProjectInputs project_inputs(const Floats& means, const Floats& quats, const Floats& scales, const Floats& opacities,
                             const OptionalFloats& sh, const OptionalFloats& sh_rest, int sh_degree, const Floats& viewmats,
                             const OptionalFloats& camera_centers, const Floats& Ks, int width, int height,
                             float near_plane, float far_plane, float radius_clip, float eps2d, bool antialiased) {
  ProjectInputs in{};
  const size_t n = opacities.size(), c = viewmats.size() / 16;
  require_size(means, n * 3, "means");
  require_size(quats, n * 4, "quats");
  require_size(scales, n * 3, "scales");
  require_size(viewmats, c * 16, "viewmats");
  require_size(Ks, c * 9, "Ks");
  in.n_gaussians = n, in.n_cameras = c;
  in.means = means.data(), in.quats = quats.data(), in.scales = scales.data(), in.opacities = opacities.data();
  if (sh) {
    require(sh->ndim() == 3 && sh->shape(0) == n && sh->shape(1) >= 1 && sh->shape(2) == 3, "sh must have shape [N, K, 3]");
    if (sh_rest) {
      require(sh->shape(1) == 1, "sh beside sh_rest must have shape [N, 1, 3]");
      require(sh_rest->ndim() == 3 && sh_rest->shape(0) == n && sh_rest->shape(2) == 3,
              "sh_rest must have shape [N, K - 1, 3]");
    }
    const size_t k = sh_rest ? 1 + sh_rest->shape(1) : sh->shape(1);
    require(0 <= sh_degree && sh_degree <= 3, "sh_degree must be 0 to 3");
    require(static_cast<size_t>((sh_degree + 1) * (sh_degree + 1)) <= k, "sh has too few coefficients");
    require(camera_centers.has_value(), "sh needs camera_centers");
    in.sh0 = sh->data(), in.sh0_stride = sh->shape(1) * 3;
    in.sh_rest = sh_rest ? sh_rest->data() : sh->data() + 3;
    in.sh_rest_stride = sh_rest ? (k - 1) * 3 : k * 3;
    in.sh_rest_size = static_cast<int>((k - 1) * 3);
    in.sh_degree = sh_degree;
    in.camera_centers = data_or_null(camera_centers, c * 3, "camera_centers");
  }
  in.viewmats = viewmats.data(), in.Ks = Ks.data();
  in.width = width, in.height = height;
  in.near_plane = near_plane, in.far_plane = far_plane, in.radius_clip = radius_clip, in.eps2d = eps2d;
  in.antialiased = antialiased;
  return in;
}

void project_forward(const Floats& means, const Floats& quats, const Floats& scales, const Floats& opacities,
                     const OptionalFloats& sh, const OptionalFloats& sh_rest, int sh_degree, const Floats& viewmats,
                     const OptionalFloats& camera_centers, const Floats& Ks, int width, int height, float near_plane,
                     float far_plane, float radius_clip, float eps2d, bool antialiased, const Array<int32_t>& radii,
                     const FloatsOut& means2d, const FloatsOut& depths, const FloatsOut& conics,
                     const FloatsOut& opacities2d, const OptionalFloatsOut& colors) {
  const ProjectInputs in = project_inputs(means, quats, scales, opacities, sh, sh_rest, sh_degree, viewmats, camera_centers, Ks,
                                          width, height, near_plane, far_plane, radius_clip, eps2d, antialiased);
  const size_t n = in.n_gaussians * in.n_cameras;
  require_size(radii, n, "radii");
  require_size(means2d, n * 2, "means2d");
  require_size(depths, n, "depths");
  require_size(conics, n * 3, "conics");
  require_size(opacities2d, n, "opacities2d");
  require(sh.has_value() == colors.has_value(), "sh and colors go together");
  const ProjectOutputs out{radii.data(),  means2d.data(),     depths.data(),
                           conics.data(), opacities2d.data(), data_or_null(colors, n * 3, "colors")};
  nb::gil_scoped_release release;
  kernels().project_forward(in, out);
}

void project_backward(const Floats& means, const Floats& quats, const Floats& scales, const Floats& opacities,
                      const OptionalFloats& sh, const OptionalFloats& sh_rest, int sh_degree, const Floats& viewmats,
                      const OptionalFloats& camera_centers, const Floats& Ks, int width, int height, float near_plane,
                      float far_plane, float radius_clip, float eps2d, bool antialiased,
                      const Array<const int32_t>& radii, const Floats& v_means2d, const Floats& v_depths,
                      const Floats& v_conics, const Floats& v_opacities2d, const OptionalFloats& v_colors,
                      const FloatsOut& v_means, const FloatsOut& v_quats, const FloatsOut& v_scales,
                      const FloatsOut& v_opacities, const OptionalFloatsOut& v_sh, const OptionalFloatsOut& v_sh_rest,
                      const OptionalFloatsOut& v_viewmats, const OptionalFloatsOut& v_camera_centers,
                      const OptionalFloats& v_means2d_abs, const OptionalFloatsOut& grad2d,
                      const OptionalFloatsOut& grad_count, const OptionalFloatsOut& max_radii) {
  const ProjectInputs in = project_inputs(means, quats, scales, opacities, sh, sh_rest, sh_degree, viewmats, camera_centers, Ks,
                                          width, height, near_plane, far_plane, radius_clip, eps2d, antialiased);
  const size_t n = in.n_gaussians, c = in.n_cameras;
  require_size(radii, c * n, "radii");
  require_size(v_means2d, c * n * 2, "v_means2d");
  require_size(v_depths, c * n, "v_depths");
  require_size(v_conics, c * n * 3, "v_conics");
  require_size(v_opacities2d, c * n, "v_opacities2d");
  require_size(v_means, n * 3, "v_means");
  require_size(v_quats, n * 4, "v_quats");
  require_size(v_scales, n * 3, "v_scales");
  require_size(v_opacities, n, "v_opacities");
  require(sh.has_value() == v_colors.has_value() && sh.has_value() == v_sh.has_value(),
          "sh, v_colors and v_sh go together");
  require(sh_rest.has_value() == v_sh_rest.has_value(), "sh_rest and v_sh_rest go together");
  ProjectGradients g{};
  g.radii = radii.data(), g.v_means2d = v_means2d.data(), g.v_depths = v_depths.data();
  g.v_conics = v_conics.data(), g.v_opacities = v_opacities2d.data();
  g.v_colors = data_or_null(v_colors, c * n * 3, "v_colors");
  g.v_means = v_means.data(), g.v_quats = v_quats.data(), g.v_scales = v_scales.data();
  g.v_opacities_in = v_opacities.data();
  g.v_sh0 = data_or_null(v_sh, n * in.sh0_stride, "v_sh");
  g.v_sh_rest = v_sh_rest ? data_or_null(v_sh_rest, n * in.sh_rest_stride, "v_sh_rest") : g.v_sh0 ? g.v_sh0 + 3 : nullptr;
  g.v_viewmats = data_or_null(v_viewmats, c * 16, "v_viewmats");
  g.v_camera_centers = data_or_null(v_camera_centers, c * 3, "v_camera_centers");
  require(grad2d.has_value() == grad_count.has_value(), "grad2d and grad_count go together");
  g.stats = {data_or_null(v_means2d_abs, c * n * 2, "v_means2d_abs"), data_or_null(grad2d, n, "grad2d"),
             data_or_null(grad_count, n, "grad_count"), data_or_null(max_radii, n, "max_radii")};
  BorrowedScratch borrowed;
  nb::gil_scoped_release release;
  kernels().project_backward(in, g, *borrowed.scratch);
}

// The caller owns what is returned.
RasterState* rasterize_forward(const Floats& means2d, const Floats& conics, const Floats& colors,
                               const Floats& opacities, const Array<const int32_t>& radii, const Floats& depths,
                               const OptionalFloats& background, int width, int height, bool for_backward,
                               const FloatsOut& render, const FloatsOut& alpha) {
  RasterizeInputs in{};
  in.for_backward = for_backward;
  const size_t n = opacities.size();
  require(colors.ndim() == 2 && colors.shape(0) == n, "colors must have shape [N, channels]");
  in.n_gaussians = n;
  in.channels = static_cast<int>(colors.shape(1));
  require(1 <= in.channels && in.channels <= MAX_CHANNELS, "there must be 1 to 4 channels");
  require(width > 0 && height > 0, "width and height must be positive");
  require_size(means2d, n * 2, "means2d");
  require_size(conics, n * 3, "conics");
  require_size(radii, n, "radii");
  require_size(depths, n, "depths");
  const size_t pixels = static_cast<size_t>(width) * height;
  require_size(render, pixels * in.channels, "render");
  require_size(alpha, pixels, "alpha");
  in.means2d = means2d.data(), in.conics = conics.data(), in.colors = colors.data();
  in.opacities = opacities.data(), in.radii = radii.data(), in.depths = depths.data();
  in.width = width, in.height = height;
  in.background = data_or_null(background, in.channels, "background");
  auto state = std::make_unique<RasterState>();
  state->for_backward = for_backward;
  state->channels = in.channels, state->width = width, state->height = height, state->n_gaussians = n;
  nb::gil_scoped_release release;
  kernels().rasterize_forward(in, *state->scratch, render.data(), alpha.data());
  return state.release();
}

void rasterize_backward(const RasterState& state, const Floats& render, const Floats& alpha, const Floats& v_render,
                        const Floats& v_alpha, const FloatsOut& v_means2d, const FloatsOut& v_conics,
                        const FloatsOut& v_colors, const FloatsOut& v_opacities,
                        const OptionalFloatsOut& v_means2d_abs) {
  require(state.for_backward, "the backward pass needs a forward pass with for_backward");
  const size_t n = state.n_gaussians, pixels = static_cast<size_t>(state.width) * state.height;
  require_size(render, pixels * state.channels, "render");
  require_size(v_render, pixels * state.channels, "v_render");
  require_size(alpha, pixels, "alpha");
  require_size(v_alpha, pixels, "v_alpha");
  require_size(v_means2d, n * 2, "v_means2d");
  require_size(v_conics, n * 3, "v_conics");
  require_size(v_colors, n * state.channels, "v_colors");
  require_size(v_opacities, n, "v_opacities");
  RasterizeGradients g{};
  g.channels = state.channels, g.width = state.width, g.height = state.height;
  g.render = render.data(), g.alpha = alpha.data(), g.v_render = v_render.data(), g.v_alpha = v_alpha.data();
  g.v_means2d = v_means2d.data(), g.v_conics = v_conics.data(), g.v_colors = v_colors.data();
  g.v_opacities = v_opacities.data();
  g.v_means2d_abs = data_or_null(v_means2d_abs, n * 2, "v_means2d_abs");
  nb::gil_scoped_release release;
  kernels().rasterize_backward(g, *state.scratch);
}

void composite_rays(const Floats& means, const Floats& rotations, const Floats& scales, const Floats& opacities,
                    const Floats& colors, int sh_degree, const Floats& origins, const Floats& directions,
                    const Floats& nears, const Floats& fars, const Floats& pixel_pitch, float eps2d, const FloatsOut& rgb,
                    const FloatsOut& passing, const FloatsOut& distance, const FloatsOut& normals) {
  const size_t n = opacities.size(), rays = nears.size();
  require_size(means, n * 3, "means");
  require_size(rotations, n * 9, "rotations");
  require_size(scales, n * 3, "scales");
  require(n < size_t(1) << 32, "there must be fewer than 2^32 Gaussians");
  require(-1 <= sh_degree && sh_degree <= 3, "sh_degree must be 0 to 3, or -1 without harmonics");
  const size_t least = sh_degree < 0 ? 3 : (sh_degree + 1) * (sh_degree + 1) * 3, stride = n ? colors.size() / n : least;
  require(colors.size() == n * stride && stride >= least, "colors must have shape [N, 3], or [N, K, 3] with enough K");
  require_size(origins, rays * 3, "origins");
  require_size(directions, rays * 3, "directions");
  require_size(fars, rays, "fars");
  require_size(pixel_pitch, rays, "pixel_pitch");
  require_size(rgb, rays * 3, "rgb");
  require_size(passing, rays, "passing");
  require_size(distance, rays, "distance");
  require_size(normals, rays * 3, "normals");
  const CompositeInputs in{n, rays, means.data(), rotations.data(), scales.data(), opacities.data(), colors.data(), stride,
                           sh_degree, origins.data(), directions.data(), nears.data(), fars.data(), pixel_pitch.data(),
                           eps2d};
  const CompositeOutputs out{rgb.data(), passing.data(), distance.data(), normals.data()};
  BorrowedScratch borrowed;
  nb::gil_scoped_release release;
  kernels().composite_rays(in, out, *borrowed.scratch);
}

template <typename T>
float l1_ssim(const Floats& render, const Array<const T>& target, float ssim_lambda, const OptionalFloats& mask,
              const OptionalFloatsOut& v_render) {
  require(render.ndim() == 3 && render.shape(2) == 3, "render must have shape [H, W, 3]");
  require(render.shape(0) >= 11 && render.shape(1) >= 11, "the image must be at least 11 pixels high and wide");
  require_size(target, render.size(), "target");
  L1SsimInputs in{};
  in.width = static_cast<int>(render.shape(1)), in.height = static_cast<int>(render.shape(0));
  in.render = render.data(), in.mask = data_or_null(mask, render.size() / 3, "mask");
  if constexpr (std::is_same_v<T, float>)
    in.target = target.data();
  else
    in.target_bytes = target.data();
  in.ssim_lambda = ssim_lambda, in.v_render = data_or_null(v_render, render.size(), "v_render");
  BorrowedScratch borrowed;
  nb::gil_scoped_release release;
  return kernels().l1_ssim(in, *borrowed.scratch);
}

void adam_step(const FloatsOut& param, const Floats& grad, const FloatsOut& exp_avg, const FloatsOut& exp_avg_sq,
               float lr, float beta1, float beta2, float eps, int64_t step, bool skip_zero_rows) {
  require(param.ndim() >= 1, "param must have at least one dimension");
  require_size(grad, param.size(), "grad");
  require_size(exp_avg, param.size(), "exp_avg");
  require_size(exp_avg_sq, param.size(), "exp_avg_sq");
  require(step >= 1, "step counts from 1");
  const size_t rows = param.shape(0);
  if (param.size() == 0) return;
  const AdamInputs in{rows,       param.size() / rows, param.data(), grad.data(), exp_avg.data(), exp_avg_sq.data(), lr,
                      beta1,      beta2,               eps,          step,        skip_zero_rows};
  nb::gil_scoped_release release;
  kernels().adam_step(in);
}

using Halves = Array<const int16_t>;  // bfloat16, of which nanobind and numpy know nothing

void attention_bfloat16(const Halves& queries, const Halves& keys, const Halves& values, const Array<int16_t>& found) {
  const AttentionKernel kernel = attention_kernel();
  require(kernel, "this processor has no instructions for bfloat16");
  require(queries.ndim() == 4 && queries.shape(3) == ATTENTION_CHANNELS, "queries must have shape [B, T, H, 64]");
  require(keys.ndim() == 4, "keys must have shape [B, S, H, 64]");
  const AttentionInputs in{queries.shape(0), queries.shape(1), keys.shape(1), queries.shape(2),
                           reinterpret_cast<const uint16_t*>(queries.data()), reinterpret_cast<const uint16_t*>(keys.data()),
                           reinterpret_cast<const uint16_t*>(values.data()), reinterpret_cast<uint16_t*>(found.data())};
  require(in.n_keys > 0, "there must be a key");
  require_size(keys, in.n_batch * in.n_keys * in.n_heads * ATTENTION_CHANNELS, "keys");
  require_size(values, keys.size(), "values");
  require_size(found, queries.size(), "found");
  BorrowedScratch borrowed;
  nb::gil_scoped_release release;
  kernel(in, *borrowed.scratch);
}

// Sources: as many of quads and depths, and rows of their projections: A [9], b [3], back_A [9], back_b [3].
void patch_match(const Floats& image, const std::optional<Array<const uint8_t>>& mask, float fx, float fy, float cx,
                 float cy, const std::vector<Array<const int32_t>>& quads, const Floats& projections,
                 const std::vector<Array<const uint8_t>>& masks, const std::vector<Floats>& depths,
                 float min_inverse_depth, float max_inverse_depth, int iterations, int random_iterations, uint32_t seed,
                 const FloatsOut& planes, const FloatsOut& costs) {
  require(image.ndim() == 2 && image.size() > 0 && image.size() < size_t(1) << 24, "image must have shape [H, W], below 2^24");
  require(!quads.empty() && quads.size() <= MAX_SOURCES, "there must be 1 to 32 sources");
  require(masks.empty() || masks.size() == quads.size(), "there must be a mask for each source, or none");
  require(depths.empty() || depths.size() == quads.size(), "there must be a depth for each source, or none");
  require(fx > 0 && fy > 0, "focal lengths must be positive");
  require(0 < min_inverse_depth && min_inverse_depth < max_inverse_depth, "inverse depths must be positive and a range");
  require_size(projections, quads.size() * 24, "projections");
  require_size(planes, image.size() * 3, "planes");
  require_size(costs, image.size(), "costs");
  std::vector<StereoSource> sources(quads.size());
  for (size_t i = 0; i < quads.size(); ++i) {
    StereoSource& source = sources[i];
    require(quads[i].ndim() == 2 && quads[i].size() > 0 && quads[i].size() < size_t(1) << 24,
            "a source must have shape [H, W], below 2^24");
    source.height = static_cast<int>(quads[i].shape(0)), source.width = static_cast<int>(quads[i].shape(1));
    source.quads = reinterpret_cast<const uint32_t*>(quads[i].data());  // bytes, whatever the sign
    source.mask = nullptr, source.depth = nullptr;
    if (!masks.empty()) {
      require_size(masks[i], quads[i].size(), "mask");
      source.mask = masks[i].data();
    }
    if (!depths.empty()) {
      require_size(depths[i], quads[i].size(), "depth");
      source.depth = depths[i].data();
    }
    const float* row = projections.data() + i * 24;
    std::copy(row, row + 9, source.A), std::copy(row + 9, row + 12, source.b);
    std::copy(row + 12, row + 21, source.back_A), std::copy(row + 21, row + 24, source.back_b);
  }
  PatchMatchInputs in{};
  in.height = static_cast<int>(image.shape(0)), in.width = static_cast<int>(image.shape(1));
  in.image = image.data(), in.mask = data_or_null(mask, image.size(), "mask");
  in.fx = fx, in.fy = fy, in.cx = cx, in.cy = cy;
  in.n_sources = sources.size(), in.sources = sources.data();
  in.min_inverse_depth = min_inverse_depth, in.max_inverse_depth = max_inverse_depth;
  in.iterations = iterations, in.random_iterations = random_iterations, in.seed = seed;
  nb::gil_scoped_release release;
  kernels().patch_match(in, planes.data(), costs.data());
}

}  // namespace

NB_MODULE(_C, m) {
  // An autograd graph that is alive when Python exits still holds its RasterState; that is not a leak.
  nb::set_leak_warnings(false);
  m.doc() = "Compiled kernels of img3d_kernels; called through img3d_kernels.cpu_backend.";
  nb::class_<RasterState>(m, "RasterState", "What rasterize_forward keeps for rasterize_backward.")
      .def_prop_ro("n_visible", [](const RasterState& s) { return s.scratch->n_visible; })
      .def_prop_ro("n_pixel_pairs", &RasterState::n_pixel_pairs)
      .def_prop_ro("nbytes", [](const RasterState& s) { return s.scratch->bytes(); });

  m.def("project_forward", &project_forward, array("means"), array("quats"), array("scales"), array("opacities"),
        optional_array("sh"), optional_array("sh_rest"), "sh_degree"_a, array("viewmats"), optional_array("camera_centers"),
        array("Ks"), "width"_a, "height"_a, "near_plane"_a, "far_plane"_a, "radius_clip"_a, "eps2d"_a,
        "antialiased"_a, array("radii"), array("means2d"), array("depths"), array("conics"), array("opacities2d"),
        optional_array("colors"));
  m.def("project_backward", &project_backward, array("means"), array("quats"), array("scales"), array("opacities"),
        optional_array("sh"), optional_array("sh_rest"), "sh_degree"_a, array("viewmats"), optional_array("camera_centers"),
        array("Ks"), "width"_a, "height"_a, "near_plane"_a, "far_plane"_a, "radius_clip"_a, "eps2d"_a,
        "antialiased"_a, array("radii"), array("v_means2d"), array("v_depths"), array("v_conics"),
        array("v_opacities2d"), optional_array("v_colors"), array("v_means"), array("v_quats"), array("v_scales"),
        array("v_opacities"), optional_array("v_sh"), optional_array("v_sh_rest"), optional_array("v_viewmats"),
        optional_array("v_camera_centers"), optional_array("v_means2d_abs"), optional_array("grad2d"),
        optional_array("grad_count"), optional_array("max_radii"));
  m.def("rasterize_forward", &rasterize_forward, array("means2d"), array("conics"), array("colors"),
        array("opacities"), array("radii"), array("depths"), optional_array("background"), "width"_a, "height"_a,
        "for_backward"_a, array("render"), array("alpha"));
  m.def("rasterize_backward", &rasterize_backward, "state"_a, array("render"), array("alpha"), array("v_render"),
        array("v_alpha"), array("v_means2d"), array("v_conics"), array("v_colors"), array("v_opacities"),
        optional_array("v_means2d_abs"));
  m.def("composite_rays", &composite_rays, array("means"), array("rotations"), array("scales"), array("opacities"),
        array("colors"), "sh_degree"_a, array("origins"), array("directions"), array("nears"), array("fars"),
        array("pixel_pitch"), "eps2d"_a, array("rgb"), array("passing"), array("distance"), array("normals"));
  m.def("l1_ssim", &l1_ssim<float>, array("render"), array("target"), "ssim_lambda"_a, optional_array("mask"),
        optional_array("v_render"));
  m.def("l1_ssim", &l1_ssim<uint8_t>, array("render"), array("target"), "ssim_lambda"_a, optional_array("mask"),
        optional_array("v_render"));
  m.def("adam_step", &adam_step, array("param"), array("grad"), array("exp_avg"), array("exp_avg_sq"), "lr"_a,
        "beta1"_a, "beta2"_a, "eps"_a, "step"_a, "skip_zero_rows"_a);
  m.def("patch_match", &patch_match, array("image"), optional_array("mask"), "fx"_a, "fy"_a, "cx"_a, "cy"_a, array("quads"),
        array("projections"), array("masks"), array("depths"), "min_inverse_depth"_a, "max_inverse_depth"_a, "iterations"_a,
        "random_iterations"_a, "seed"_a, array("planes"), array("costs"));
  m.def("attention_bfloat16", &attention_bfloat16, array("queries"), array("keys"), array("values"), array("found"));
  m.def("has_attention_bfloat16", [] { return attention_kernel() != nullptr; });
  add_fields(m);
  m.def("isa", [] { return std::string(kernels().isa); }, "The instruction set in use: avx512, avx2 or baseline.");
  m.def("num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads, "n"_a);
}
