#include "tiles.hpp"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

namespace luna {
namespace {

Index round_up(Index n) { return (n + kMultiple - 1) / kMultiple * kMultiple; }

Index round_down(Index n) { return n / kMultiple * kMultiple; }

// The smallest box around the lung within `box`, which may reach past the volume's end.
std::optional<Box> lung_within(const Lung& lung, const Box& box) {
  constexpr Index kNone = std::numeric_limits<Index>::max();
  Box found{{kNone, kNone, kNone}, {0, 0, 0}};
  Irc end{};
  for (std::size_t k = 0; k < 3; ++k) end[k] = std::min(box.high[k], lung.grid.shape[k]);
  Irc at{};
  for (at[0] = box.low[0]; at[0] < end[0]; ++at[0])
    for (at[1] = box.low[1]; at[1] < end[1]; ++at[1])
      for (at[2] = box.low[2]; at[2] < end[2]; ++at[2]) {
        if (lung.at(at) == 0) continue;
        for (std::size_t k = 0; k < 3; ++k) {
          found.low[k] = std::min(found.low[k], at[k]);
          found.high[k] = std::max(found.high[k], at[k] + 1);
        }
      }
  if (found.low[0] == kNone) return std::nullopt;
  return found;
}

// The smallest box within `box`, at multiples of kMultiple, around its lung and rim.
std::optional<Box> shrunk(const Lung& lung, const Box& box) {
  const auto inside = lung_within(lung, box);
  if (!inside) return std::nullopt;
  Box found;
  for (std::size_t k = 0; k < 3; ++k) {
    found.low[k] = std::max(box.low[k], round_down(std::max<Index>(inside->low[k] - kRim, 0)));
    found.high[k] = std::min(box.high[k], round_up(inside->high[k] + kRim));
  }
  return found;
}

Box clipped(Box box, const Irc& shape) {
  for (std::size_t k = 0; k < 3; ++k) box.high[k] = std::min(box.high[k], shape[k]);
  return box;
}

Box with_margin(Box box, const Irc& padded) {
  for (std::size_t k = 0; k < 3; ++k) {
    box.low[k] = std::max<Index>(box.low[k] - kMargin, 0);
    box.high[k] = std::min(box.high[k] + kMargin, padded[k]);
  }
  return box;
}

// Two parts of a box, cut across its longest axis.
std::pair<Box, Box> halves(const Box& box) {
  const Irc sides = box.shape();
  const auto axis = static_cast<std::size_t>(std::max_element(sides.begin(), sides.end()) - sides.begin());
  auto parts = std::pair(box, box);
  parts.first.high[axis] = parts.second.low[axis] = box.low[axis] + round_up(sides[axis] / 2);
  return parts;
}

}  // namespace

std::vector<Tile> plan_tiles(const Lung& lung) {
  Irc padded{};
  std::transform(lung.grid.shape.begin(), lung.grid.shape.end(), padded.begin(), round_up);
  std::vector<Tile> tiles;
  std::vector<Box> regions{{{0, 0, 0}, padded}};
  while (!regions.empty()) {
    const auto box = shrunk(lung, regions.back());
    regions.pop_back();
    if (!box) continue;
    const Box read = with_margin(*box, padded);
    if (read.size() <= kMaxVoxels) {
      tiles.push_back({clipped(*box, lung.grid.shape), read});
      continue;
    }
    const auto [lower, upper] = halves(*box);
    regions.push_back(upper);
    regions.push_back(lower);
  }
  return tiles;
}

}  // namespace luna
