// SPDX-License-Identifier: Apache-2.0
// Places samples for blocks of a picture's pixels. One ray of each block is looked at. The block's other rays have its
// samples, but for those that have little weight in it and in the neighbours' rays: in empty space, or behind a surface.
#pragma once

#include "fields/guided_sampling.h"
#include "fields/radiance_field.h"

namespace IMG3D_ISA {
namespace {

using img3d::PictureBlocks;

constexpr int BLOCKS_PER_TASK = 32;

class BlockSampler {
 public:
  BlockSampler(const FieldInputs& in, const GuidedInputs& guided, const PictureBlocks& blocks, float least_weight,
               img3d::Scratch& scratch)
      : guided_(guided), blocks_(blocks), least_weight_(least_weight), height_(guided.ends.n_rays / blocks.width),
        down_(ceil_div(height_, blocks.side)), stride_(padded(static_cast<int>(guided.n_bins), W)), field_(in),
        sampler_(guided), met_(scratch.get<float>(n_blocks() * stride_)) {}

  size_t n_blocks() const { return blocks_.across() * down_; }

  void run(int32_t* counts, float* middles, float* lengths) const {
    const auto in_tasks = [&](const auto& f) {
      parallel(ceil_div(n_blocks(), BLOCKS_PER_TASK), [&](size_t task) {
        f(task * BLOCKS_PER_TASK, smaller(n_blocks(), (task + 1) * BLOCKS_PER_TASK));
      });
    };
    in_tasks([&](size_t first, size_t end) {
      [[maybe_unused]] const MatrixUnit unit;
      while (first < end) first = look(first, end);
    });
    in_tasks([&](size_t first, size_t end) {
      for (size_t block = first; block < end; ++block)
        counts[block] = place(block, middles + block * guided_.n_samples, lengths + block * guided_.n_samples);
    });
  }

 private:
  // The ray of a block that is looked at. Its place in the block differs from those in the neighbours, so that something
  // thin along a row or a column of pixels does not pass between all of them.
  size_t chosen_ray(size_t block) const {
    const size_t row = block / blocks_.across(), column = block % blocks_.across();
    const size_t y = smaller(height_ - 1, row * blocks_.side + (row + 3 * column) % blocks_.side);
    const size_t x = smaller(blocks_.width - 1, column * blocks_.side + (3 * row + column) % blocks_.side);
    return y * blocks_.width + x;
  }

  // Finds the weights of the samples of blocks' chosen rays, as many as fit into a Block. Returns the next block.
  size_t look(size_t first, size_t end) const {
    Block& b = kept_for_thread<Block>();
    int counts[BLOCKS_PER_TASK], n = 0;
    size_t last = first;
    for (; last < end && n + static_cast<int>(guided_.n_samples) <= BLOCK_SAMPLES; ++last) {
      const size_t ray = chosen_ray(last);
      const int count = counts[last - first] = sampler_(ray, b.middle + n, b.length + n);
      for (int k = 0; k < count; ++k) b.ray[n + k] = static_cast<uint32_t>(ray);
      n += count;
    }
    if (n > 0) {
      field_.place(b, n, guided_.ends.origins, guided_.ends.directions);
      field_.find_density(b, n);
      RadianceField::find_passing(b, n);
    }
    int row = 0;
    for (size_t block = first; block < last; row += counts[block - first], ++block) {
      float* const met = met_ + block * stride_;
      std::fill_n(met, stride_, 0.0f);
      if (counts[block - first] == 0) continue;
      const RayBins bins(sampler_.range(chosen_ray(block)), guided_.n_bins);
      float transmittance = 1.0f;
      for (int k = row; k < row + counts[block - first] && transmittance >= img3d::MIN_TRANSMITTANCE; ++k) {
        const float after = transmittance * b.passing[k];
        for_bins(bins, b.middle[k], b.length[k], [&](int bin) { met[bin] = std::fmax(met[bin], transmittance - after); });
        transmittance = after;
      }
    }
    return last;
  }

  // Calls f(bin) for the bins that a sample reaches into.
  template <typename F>
  static void for_bins(const RayBins& bins, float middle, float length, const F& f) {
    const auto bin_at = [&](float t) {
      const float position = (bin_coordinate(t) - bins.first) / bins.width;
      return static_cast<int>(std::fmin(std::fmax(position, 0.0f), float(bins.count - 1)));
    };
    const int last = bin_at(middle + 0.5f * length);
    for (int bin = bin_at(middle - 0.5f * length); bin <= last; ++bin) f(bin);
  }

  // Returns the number of samples.
  int place(size_t block, float* middles, float* lengths) const {
    const size_t ray = chosen_ray(block);
    const int n_samples = sampler_(ray, middles, lengths);
    if (n_samples == 0) return 0;
    float known[MAX_BINS + W] = {};
    const size_t across = blocks_.across(), row = block / across, column = block % across;
    for (size_t y = row - (row > 0); y <= smaller(row + 1, down_ - 1); ++y)
      for (size_t x = column - (column > 0); x <= smaller(column + 1, across - 1); ++x) {
        const float* const met = met_ + (y * across + x) * stride_;
        for (int bin = 0; bin < stride_; bin += W) store(known + bin, vmax(load(known + bin), load(met + bin)));
      }
    const RayBins bins(sampler_.range(ray), guided_.n_bins);
    int kept = 0;
    for (int k = 0; k < n_samples; ++k) {
      float heaviest = 0.0f;
      for_bins(bins, middles[k], lengths[k], [&](int bin) { heaviest = std::fmax(heaviest, known[bin]); });
      if (heaviest < least_weight_) continue;
      middles[kept] = middles[k], lengths[kept] = lengths[k], ++kept;
    }
    return kept;
  }

  const GuidedInputs& guided_;
  const PictureBlocks& blocks_;
  const float least_weight_;
  const size_t height_, down_;
  const int stride_;
  const RadianceField field_;
  const GuidedSampler sampler_;
  float* const met_;  // [B, stride]: the highest weight of the chosen rays' samples in each bin
};

void field_block_samples(const FieldInputs& in, const GuidedInputs& guided, const PictureBlocks& blocks, float least_weight,
                         int32_t* counts, float* middles, float* lengths, img3d::Scratch& scratch) {
  BlockSampler(in, guided, blocks, least_weight, scratch).run(counts, middles, lengths);
}

}  // namespace
}  // namespace IMG3D_ISA
