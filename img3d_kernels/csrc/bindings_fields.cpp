// SPDX-License-Identifier: Apache-2.0
// Python bindings of the radiance field's kernels.
#include <nanobind/stl/pair.h>

#include "bindings.h"

using namespace nb::literals;
using namespace img3d;

namespace {

size_t num_cells(const FieldSpace& space) { return space.grid_size * space.grid_size * space.grid_size; }

// What the field's kernels have in common, as Python passes it.
struct FieldArrays {
  Floats table, networks;
  std::vector<int32_t> resolutions;
  float density_bias;
  bool contracted;
  std::vector<float> low, high;
  std::optional<Array<const int32_t>> occupied;
  size_t grid_size;
  bool bfloat16;

  const NetworkKernels& kernels() const {
    if (!bfloat16) return img3d::kernels().networks;
    const NetworkKernels* found = bfloat16_networks();
    require(found != nullptr, "this processor has no products of bfloat16");
    return *found;
  }

  FieldSpace space() const {
    require(low.size() == 3 && high.size() == 3, "low and high must have three numbers");
    for (int axis = 0; axis < 3; ++axis) require(low[axis] < high[axis], "low must be below high");
    require(grid_size >= 1 && grid_size <= 512, "grid_size must be from 1 to 512");
    FieldSpace space{contracted, {low[0], low[1], low[2]}, {high[0], high[1], high[2]}, grid_size, nullptr};
    const size_t words = (num_cells(space) + 31) / 32;
    space.occupied = reinterpret_cast<const uint32_t*>(data_or_null(occupied, words, "occupied"));
    return space;
  }

  FieldInputs inputs() const {
    require(table.ndim() == 3 && table.shape(0) == resolutions.size() && table.shape(2) == 2,
            "table must have shape [L, T, 2], and there must be L resolutions");
    const size_t levels = table.shape(0), size = table.shape(1);
    require(1 <= levels && levels <= MAX_LEVELS, "there must be 1 to 16 levels");
    require(size > 0 && (size & (size - 1)) == 0 && size <= size_t(1) << 31, "a level must have a power of two of entries");
    for (int32_t resolution : resolutions)
      require(resolution >= 1 && resolution <= 1 << 24, "resolutions must be from 1 to 2^24");
    require_size(networks, (2 * levels + 2 * GEOMETRY + HIDDEN + 3) * HIDDEN, "networks");
    return {space(), levels, size, resolutions.data(), table.data(), networks.data(), density_bias};
  }
};

FieldRays field_rays(const Floats& origins, const Floats& directions, const Floats& features, size_t width) {
  require(origins.ndim() == 2 && origins.shape(1) == 3 && origins.shape(0) < size_t(1) << 32, "origins must have shape [R, 3]");
  const size_t n = origins.shape(0);
  require_size(directions, n * 3, "directions");
  require_size(features, n * HIDDEN, "features");
  require(width == 0 || n % width == 0, "rays of a picture must be whole rows of it");
  return {n, width, origins.data(), directions.data(), features.data()};
}

RayEnds ray_ends(const Floats& origins, const Floats& directions, const Floats& nears, const Floats& fars,
                 const OptionalFloats& offsets) {
  require(origins.ndim() == 2 && origins.shape(1) == 3, "origins must have shape [R, 3]");
  const size_t n = origins.shape(0);
  require_size(directions, n * 3, "directions");
  require_size(nears, n, "nears");
  require_size(fars, n, "fars");
  return {n, origins.data(), directions.data(), nears.data(), fars.data(), data_or_null(offsets, n, "offsets")};
}

void require_step(float step) { require(step > 0, "step must be positive"); }

template <typename Counts, typename Values>
void require_samples(size_t n_rays, const Counts& counts, const Values& middles, const Values& lengths) {
  require_size(counts, n_rays, "counts");
  require(middles.ndim() == 2 && middles.shape(0) == n_rays && middles.shape(1) <= MAX_RAY_SAMPLES,
          "middles must have shape [R, S] with at most 512 samples");
  require_size(lengths, middles.size(), "lengths");
}

RaySamples ray_samples(size_t n_rays, const Array<const int32_t>& counts, const Floats& middles, const Floats& lengths) {
  require_samples(n_rays, counts, middles, lengths);
  for (size_t i = 0; i < n_rays; ++i)
    require(counts.data()[i] >= 0 && size_t(counts.data()[i]) <= middles.shape(1), "counts must be from 0 to S");
  return {middles.shape(1), counts.data(), middles.data(), lengths.data()};
}

FieldPicture field_picture(size_t n_rays, const FloatsOut& rgb, const FloatsOut& accumulation, const FloatsOut& depth) {
  require_size(rgb, n_rays * 3, "rgb");
  require_size(accumulation, n_rays, "accumulation");
  require_size(depth, n_rays, "depth");
  return {rgb.data(), accumulation.data(), depth.data()};
}

void field_density(const FieldArrays& field, const Floats& points, const FloatsOut& density) {
  const FieldInputs in = field.inputs();
  require(points.ndim() == 2 && points.shape(1) == 3, "points must have shape [N, 3]");
  require_size(density, points.shape(0), "density");
  nb::gil_scoped_release release;
  kernels().field_density(in, points.shape(0), points.data(), density.data());
}

void field_surface_normals(const FieldArrays& field, const Floats& origins, const Floats& directions,
                           const Floats& depth, float distance, const FloatsOut& normals) {
  const FieldInputs in = field.inputs();
  require(origins.ndim() == 2 && origins.shape(1) == 3, "origins must have shape [R, 3]");
  const size_t n = origins.shape(0);
  require_size(directions, n * 3, "directions");
  require_size(depth, n, "depth");
  require_size(normals, n * 3, "normals");
  nb::gil_scoped_release release;
  kernels().field_surface_normals(in, n, origins.data(), directions.data(), depth.data(), distance, normals.data());
}

void field_march(const FieldArrays& field, const Floats& origins, const Floats& directions, const Floats& nears,
                 const Floats& fars, const OptionalFloats& offsets, float step,
                 const Array<int32_t>& counts, const FloatsOut& middles, const FloatsOut& lengths) {
  const RayEnds ends = ray_ends(origins, directions, nears, fars, offsets);
  require_step(step);
  require_samples(ends.n_rays, counts, middles, lengths);
  const MarchInputs in{field.space(), ends, middles.shape(1), step};
  nb::gil_scoped_release release;
  kernels().field_march(in, counts.data(), middles.data(), lengths.data());
}

void field_march_visible(const FieldArrays& field, const Floats& origins, const Floats& directions, const Floats& nears,
                         const Floats& fars, const OptionalFloats& offsets, float step, const Array<int32_t>& counts,
                         const FloatsOut& middles, const FloatsOut& lengths) {
  const FieldInputs in = field.inputs();
  const RayEnds ends = ray_ends(origins, directions, nears, fars, offsets);
  require(ends.n_rays < size_t(1) << 32, "there must be fewer than 2^32 rays");
  require_step(step);
  require_samples(ends.n_rays, counts, middles, lengths);
  const MarchInputs march{in.space, ends, middles.shape(1), step};
  const NetworkKernels& kernels = field.kernels();
  nb::gil_scoped_release release;
  kernels.march_visible(in, march, counts.data(), middles.data(), lengths.data());
}

GuidedInputs guided_inputs(const FieldSpace& space, const RayEnds& ends, const Floats& weights, size_t num_bins,
                           size_t num_samples, float explored) {
  require(1 <= num_bins && num_bins <= MAX_BINS, "num_bins must be from 1 to 512");
  require(explored > 0, "explored must be positive");
  require_size(weights, num_cells(space), "weights");
  return {space, ends, weights.data(), num_bins, num_samples, explored};
}

void field_guided_samples(const FieldArrays& field, const Floats& weights, const Floats& origins,
                          const Floats& directions, const Floats& nears, const Floats& fars,
                          const OptionalFloats& offsets, size_t num_bins, float explored, const Array<int32_t>& counts,
                          const FloatsOut& middles, const FloatsOut& lengths) {
  const RayEnds ends = ray_ends(origins, directions, nears, fars, offsets);
  require_samples(ends.n_rays, counts, middles, lengths);
  const GuidedInputs in = guided_inputs(field.space(), ends, weights, num_bins, middles.shape(1), explored);
  nb::gil_scoped_release release;
  kernels().field_guided_samples(in, counts.data(), middles.data(), lengths.data());
}

std::pair<float, float> field_loss(const FieldArrays& field, const Floats& origins, const Floats& directions,
                                   const Floats& features, const Array<const int32_t>& counts, const Floats& middles,
                                   const Floats& lengths, const Floats& targets, const Floats& backgrounds,
                                   float distortion, bool near_scaling, const OptionalFloatsOut& heaviest,
                                   const FloatsOut& rgb, const FloatsOut& v_table,
                                   const FloatsOut& v_networks, const FloatsOut& v_features,
                                   const OptionalFloatsOut& v_origins, const OptionalFloatsOut& v_directions) {
  const FieldInputs in = field.inputs();
  const FieldRays rays = field_rays(origins, directions, features, 0);
  const size_t n = rays.n_rays;
  const RaySamples samples = ray_samples(n, counts, middles, lengths);
  require_size(targets, n * 3, "targets");
  require_size(backgrounds, n * 3, "backgrounds");
  require_size(rgb, n * 3, "rgb");
  require_size(v_table, field.table.size(), "v_table");
  require_size(v_networks, field.networks.size(), "v_networks");
  require_size(v_features, n * HIDDEN, "v_features");
  require(v_origins.has_value() == v_directions.has_value(), "v_origins and v_directions go together");
  const FieldLossInputs loss{targets.data(), backgrounds.data(), distortion, near_scaling,
                             data_or_null(heaviest, num_cells(in.space), "heaviest")};
  const FieldGradients gradients{v_table.data(), v_networks.data(), v_features.data(),
                                 data_or_null(v_origins, n * 3, "v_origins"),
                                 data_or_null(v_directions, n * 3, "v_directions")};
  float losses[2];
  BorrowedScratch borrowed;
  const NetworkKernels& kernels = field.kernels();
  nb::gil_scoped_release release;
  kernels.loss(in, rays, samples, loss, gradients, losses, rgb.data(), *borrowed.scratch);
  return {losses[0], losses[1]};
}

void field_render(const FieldArrays& field, const Floats& origins, const Floats& directions, const Floats& features,
                  size_t width, const Floats& nears, const Floats& fars, float step, float sharing_weight,
                  const FloatsOut& rgb, const FloatsOut& accumulation, const FloatsOut& depth) {
  const FieldInputs in = field.inputs();
  const FieldRays rays = field_rays(origins, directions, features, width);
  require_step(step);
  const MarchInputs march{in.space, ray_ends(origins, directions, nears, fars, std::nullopt), 0, step};
  const FieldPicture picture = field_picture(rays.n_rays, rgb, accumulation, depth);
  const NetworkKernels& kernels = field.kernels();
  nb::gil_scoped_release release;
  kernels.render(in, rays, march, sharing_weight, picture);
}

void field_render_samples(const FieldArrays& field, const Floats& origins, const Floats& directions,
                          const Floats& features, size_t width, const Array<const int32_t>& counts,
                          const Floats& middles, const Floats& lengths, float sharing_weight, const FloatsOut& rgb,
                          const FloatsOut& accumulation, const FloatsOut& depth) {
  const FieldInputs in = field.inputs();
  const FieldRays rays = field_rays(origins, directions, features, width);
  const RaySamples samples = ray_samples(rays.n_rays, counts, middles, lengths);
  const FieldPicture picture = field_picture(rays.n_rays, rgb, accumulation, depth);
  const NetworkKernels& kernels = field.kernels();
  nb::gil_scoped_release release;
  kernels.render_samples(in, rays, samples, sharing_weight, picture);
}

size_t num_blocks(const PictureBlocks& blocks, size_t n_rays) {
  require(blocks.width > 0 && n_rays % blocks.width == 0, "rays of a picture must be whole rows of it");
  require(blocks.side > 0, "blocks must have at least one pixel");
  return n_rays == 0 ? 0 : blocks.of(n_rays - 1) + 1;
}

void field_render_blocks(const FieldArrays& field, const Floats& origins, const Floats& directions,
                         const Floats& features, size_t width, size_t block_side, const Array<const int32_t>& counts,
                         const Floats& middles, const Floats& lengths, float sharing_weight, const FloatsOut& rgb,
                         const FloatsOut& accumulation, const FloatsOut& depth) {
  const FieldInputs in = field.inputs();
  const FieldRays rays = field_rays(origins, directions, features, width);
  const RaySamples samples = ray_samples(num_blocks({width, block_side}, rays.n_rays), counts, middles, lengths);
  const FieldPicture picture = field_picture(rays.n_rays, rgb, accumulation, depth);
  const NetworkKernels& kernels = field.kernels();
  nb::gil_scoped_release release;
  kernels.render_blocks(in, rays, samples, block_side, sharing_weight, picture);
}

void field_block_samples(const FieldArrays& field, const Floats& weights, const Floats& origins,
                         const Floats& directions, const Floats& nears, const Floats& fars, size_t width,
                         size_t block_side, size_t num_bins, float explored, float least_weight,
                         const Array<int32_t>& counts, const FloatsOut& middles, const FloatsOut& lengths) {
  const FieldInputs in = field.inputs();
  const RayEnds ends = ray_ends(origins, directions, nears, fars, std::nullopt);
  const PictureBlocks blocks{width, block_side};
  require(ends.n_rays < size_t(1) << 32, "there must be fewer than 2^32 rays");
  require_samples(num_blocks(blocks, ends.n_rays), counts, middles, lengths);
  const GuidedInputs guided = guided_inputs(in.space, ends, weights, num_bins, middles.shape(1), explored);
  BorrowedScratch borrowed;
  const NetworkKernels& kernels = field.kernels();
  nb::gil_scoped_release release;
  kernels.block_samples(in, guided, blocks, least_weight, counts.data(), middles.data(), lengths.data(),
                        *borrowed.scratch);
}

}  // namespace

void img3d::add_fields(nb::module_& m) {
  nb::class_<FieldArrays>(m, "FieldArrays", "A radiance field's arrays and space; keeps them alive.")
      .def(
          "__init__",
          [](FieldArrays* self, Floats table, Floats networks, std::vector<int32_t> resolutions, float density_bias,
             bool contracted, std::vector<float> low, std::vector<float> high,
             std::optional<Array<const int32_t>> occupied, size_t grid_size, bool bfloat16) {
            new (self) FieldArrays{table, networks, resolutions, density_bias, contracted,
                                   low,   high,     occupied,    grid_size,    bfloat16};
          },
          array("table"), array("networks"), "resolutions"_a, "density_bias"_a, "contracted"_a, "low"_a, "high"_a,
          optional_array("occupied"), "grid_size"_a, "bfloat16"_a);
  m.def("has_bfloat16_fields", [] { return bfloat16_networks() != nullptr; });
  m.def("field_density", &field_density, "field"_a, array("points"), array("density"));
  m.def("field_surface_normals", &field_surface_normals, "field"_a, array("origins"), array("directions"),
        array("depth"), "distance"_a, array("normals"));
  m.def("field_march", &field_march, "field"_a, array("origins"), array("directions"), array("nears"), array("fars"),
        optional_array("offsets"), "step"_a, array("counts"), array("middles"), array("lengths"));
  m.def("field_march_visible", &field_march_visible, "field"_a, array("origins"), array("directions"), array("nears"),
        array("fars"), optional_array("offsets"), "step"_a, array("counts"), array("middles"), array("lengths"));
  m.def("field_guided_samples", &field_guided_samples, "field"_a, array("weights"), array("origins"),
        array("directions"), array("nears"), array("fars"), optional_array("offsets"), "num_bins"_a, "explored"_a,
        array("counts"), array("middles"), array("lengths"));
  m.def("field_loss", &field_loss, "field"_a, array("origins"), array("directions"), array("features"), array("counts"),
        array("middles"), array("lengths"), array("targets"), array("backgrounds"), "distortion"_a, "near_scaling"_a,
        optional_array("heaviest"), array("rgb"), array("v_table"), array("v_networks"), array("v_features"),
        optional_array("v_origins"), optional_array("v_directions"));
  m.def("field_render", &field_render, "field"_a, array("origins"), array("directions"), array("features"), "width"_a,
        array("nears"), array("fars"), "step"_a, "sharing_weight"_a, array("rgb"), array("accumulation"), array("depth"));
  m.def("field_render_samples", &field_render_samples, "field"_a, array("origins"), array("directions"),
        array("features"), "width"_a, array("counts"), array("middles"), array("lengths"), "sharing_weight"_a,
        array("rgb"), array("accumulation"), array("depth"));
  m.def("field_render_blocks", &field_render_blocks, "field"_a, array("origins"), array("directions"),
        array("features"), "width"_a, "block_side"_a, array("counts"), array("middles"), array("lengths"),
        "sharing_weight"_a, array("rgb"), array("accumulation"), array("depth"));
  m.def("field_block_samples", &field_block_samples, "field"_a, array("weights"), array("origins"), array("directions"),
        array("nears"), array("fars"), "width"_a, "block_side"_a, "num_bins"_a, "explored"_a,
        "least_weight"_a, array("counts"), array("middles"), array("lengths"));
}
