// MetaImage: a text header (.mhd) beside raw little-endian voxels, as write_raw.py writes it.
#pragma once

#include <filesystem>

#include "volume.hpp"

namespace luna {

// Both throw std::runtime_error for what is not a whole, uncompressed volume of that type at 1 mm.
Ct read_ct(const std::filesystem::path& header);      // MET_SHORT
Lung read_lung(const std::filesystem::path& header);  // MET_UCHAR

// Throws std::runtime_error unless both have the same voxels at the same places.
void check_same_grid(const Grid& ct, const Grid& lung);

}  // namespace luna
