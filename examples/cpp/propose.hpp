// From a probability map to candidates, as p2ch_luna/inference/propose.py makes them.
#pragma once

#include <vector>

#include "volume.hpp"

namespace luna {

struct Candidate {
  Point center_xyz{};      // LPS mm, weighted by probability
  double probability = 0;  // of its most probable voxel
  double volume_mm3 = 0;   // of its mask
  double diameter_mm = 0;  // of the sphere of that volume
};

// In or at the lung, the most probable first.
std::vector<Candidate> propose(const Probability& probability, const Lung& lung);

}  // namespace luna
