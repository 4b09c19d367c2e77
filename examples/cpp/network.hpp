// The exported segmentation network; which library computes it is chosen when this is built.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "volume.hpp"

namespace luna {

class Network {
 public:
  Network() = default;
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;
  virtual ~Network() = default;

  // HU of a box, its sides multiples of kMultiple -> the mask logit of each voxel, in float32.
  virtual std::vector<float> logits(std::vector<float>& hu, const Irc& shape) = 0;
};

// Throws std::runtime_error for a file that this library cannot load.
std::unique_ptr<Network> load_network(const std::filesystem::path& model, int threads);

}  // namespace luna
