// Run the network over a CT, tile by tile.
#pragma once

#include <vector>

#include "network.hpp"
#include "tiles.hpp"
#include "volume.hpp"

namespace luna {

// Nodule probability of each voxel; 0 where there is no tile. Throws std::runtime_error for NaN.
Probability segment(Network& network, const Ct& ct, const std::vector<Tile>& tiles);

}  // namespace luna
