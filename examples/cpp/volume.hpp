// Voxels and where they lie in the patient.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace luna {

using Index = std::int64_t;
using Irc = std::array<Index, 3>;     // voxel: index, row, col; row-major, col runs fastest
using Point = std::array<double, 3>;  // patient LPS, mm

// Where voxel centres lie. direction[k]: unit step of col, row, index for k = 0, 1, 2.
struct Grid {
  Irc shape{};
  Point spacing_xyz{};
  Point origin_xyz{};
  std::array<Point, 3> direction{};

  Index size() const { return shape[0] * shape[1] * shape[2]; }

  Index offset(const Irc& irc) const { return (irc[0] * shape[1] + irc[1]) * shape[2] + irc[2]; }

  Irc voxel(Index offset) const {
    return {offset / (shape[1] * shape[2]), offset / shape[2] % shape[1], offset % shape[2]};
  }

  // irc: may be fractional.
  Point to_xyz(const Point& irc) const {
    Point xyz = origin_xyz;
    for (std::size_t axis = 0; axis < 3; ++axis)
      for (std::size_t k = 0; k < 3; ++k) xyz[k] += irc[2 - axis] * spacing_xyz[axis] * direction[axis][k];
    return xyz;
  }
};

template <typename Voxel>
struct Volume {
  Grid grid;
  std::vector<Voxel> voxels;

  const Voxel& at(const Irc& irc) const { return voxels[static_cast<std::size_t>(grid.offset(irc))]; }
};

using Ct = Volume<std::int16_t>;    // HU
using Lung = Volume<std::uint8_t>;  // 0: outside
using Probability = Volume<float>;

// The voxels from `low` up to, not including, `high`.
struct Box {
  Irc low{};
  Irc high{};

  Irc shape() const { return {high[0] - low[0], high[1] - low[1], high[2] - low[2]}; }

  Index size() const {
    const Irc sides = shape();
    return sides[0] * sides[1] * sides[2];
  }
};

}  // namespace luna
