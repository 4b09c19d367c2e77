// Which voxels of a sparse set hang together, by their 26 neighbours.
#pragma once

#include <vector>

#include "volume.hpp"

namespace luna {

constexpr Index kNoGroup = -1;

// Components are numbered in the order of their first voxels.
struct Components {
  std::vector<Index> labels;  // of each voxel
  std::vector<Index> sizes;   // of each component, in voxels

  std::size_t of(std::size_t voxel) const { return static_cast<std::size_t>(labels[voxel]); }
};

// voxels: offsets in the grid, in ascending order.
Components connect(const std::vector<Index>& voxels, const Grid& grid);

}  // namespace luna
