// Which boxes of a CT the network sees, as p2ch_luna/inference/tiles.py plans them.
#pragma once

#include <vector>

#include "volume.hpp"

namespace luna {

constexpr Index kMultiple = 16;                  // voxels: the network halves its grid four times
constexpr Index kMargin = 16;                    // voxels of real context around what a tile answers for
constexpr Index kRim = 8;                        // voxels around the lung that are looked at too
constexpr Index kMaxVoxels = 200 * 200 * 200;    // of one pass

// One pass. core: where its answer is kept. read: what it sees, perhaps past the volume's end.
struct Tile {
  Box core;
  Box read;
};

// Cover a lung mask and its rim. Cores do not overlap. No lung: no tile.
std::vector<Tile> plan_tiles(const Lung& lung);

}  // namespace luna
