#include "segment.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace luna {
namespace {

constexpr float kAirHu = -1000;

// What a tile sees; past the volume's end it is air.
std::vector<float> read(const Ct& ct, const Box& box) {
  std::vector<float> hu(static_cast<std::size_t>(box.size()), kAirHu);
  const Irc sides = box.shape();
  const Irc& shape = ct.grid.shape;
  const Index columns = std::min(box.high[2], shape[2]) - box.low[2];
  for (Index i = box.low[0]; i < std::min(box.high[0], shape[0]); ++i)
    for (Index r = box.low[1]; r < std::min(box.high[1], shape[1]); ++r) {
      const auto first = ct.voxels.begin() + ct.grid.offset({i, r, box.low[2]});
      const Index place = ((i - box.low[0]) * sides[1] + r - box.low[1]) * sides[2];
      std::copy(first, first + columns, hu.begin() + place);
    }
  return hu;
}

// The libraries tell where they were first, over many lines, and last what was wrong.
std::string last_line(std::string text) {
  text.erase(text.find_last_not_of('\n') + 1);
  return text.substr(text.find_last_of('\n') + 1);
}

std::vector<float> run(Network& network, std::vector<float> hu, const Irc& shape) {
  try {
    return network.logits(hu, shape);
  } catch (const std::exception& error) {
    throw std::runtime_error("the network fails: " + last_line(error.what()));
  }
}

float sigmoid(float logit) { return 1 / (1 + std::exp(-logit)); }

// logits: of tile.read
void keep_core(const std::vector<float>& logits, const Tile& tile, Probability& probability) {
  const Irc sides = tile.read.shape();
  const Index columns = tile.core.shape()[2];
  for (Index i = tile.core.low[0]; i < tile.core.high[0]; ++i)
    for (Index r = tile.core.low[1]; r < tile.core.high[1]; ++r) {
      const Index row = ((i - tile.read.low[0]) * sides[1] + r - tile.read.low[1]) * sides[2];
      const auto first = logits.begin() + row + tile.core.low[2] - tile.read.low[2];
      const auto kept = probability.voxels.begin() + probability.grid.offset({i, r, tile.core.low[2]});
      if (std::any_of(first, first + columns, [](float logit) { return std::isnan(logit); }))
        throw std::runtime_error("the network answers NaN for this scan; wanted numbers");
      std::transform(first, first + columns, kept, sigmoid);
    }
}

}  // namespace

Probability segment(Network& network, const Ct& ct, const std::vector<Tile>& tiles) {
  Probability probability{ct.grid, std::vector<float>(ct.voxels.size())};
  for (const Tile& tile : tiles) {
    keep_core(run(network, read(ct, tile.read), tile.read.shape()), tile, probability);
  }
  return probability;
}

}  // namespace luna
