#include "propose.hpp"

#include <algorithm>
#include <cmath>

#include "components.hpp"

namespace luna {
namespace {

constexpr float kThreshold = 0.1F;      // of a voxel that may belong to a nodule
constexpr float kMaskThreshold = 0.5F;  // of a voxel that does: its core gives the centre
constexpr double kLowestOutline = 0.1;  // of a mask without a core
constexpr double kOutlineShare = 0.65;  // of the highest probability, from which on voxels are the mask
constexpr int kMinCoreVoxels = 4;
constexpr double kNearLungMm = 3;
constexpr double kShareNearLung = 0.25;  // of a candidate's voxels
constexpr std::size_t kMostCandidates = 200;
constexpr double kPi = 3.14159265358979323846;

// Sums over the voxels of a candidate.
struct Group {
  Point weighted_irc{};
  double mass = 0;
  double score = 0;
  Index voxels = 0;
  Index near = 0;
  Index in_mask = 0;

  double level() const {
    const double lowest = score >= kMaskThreshold ? kMaskThreshold : kLowestOutline;
    return std::max(lowest, kOutlineShare * score);
  }
};

std::vector<Index> voxels_from(const std::vector<float>& probability, float threshold) {
  std::vector<Index> found;
  for (std::size_t k = 0; k < probability.size(); ++k)
    if (probability[k] >= threshold) found.push_back(static_cast<Index>(k));
  return found;
}

// Which group each voxel of `voxels` counts for; kNoGroup: none, as the halo of a core does.
// Groups are numbered cores first, then components without one, both in the order of their first voxels.
std::vector<Index> group_voxels(
    const std::vector<Index>& voxels, const Probability& probability, Index& count) {
  const std::vector<Index> core_voxels = voxels_from(probability.voxels, kMaskThreshold);
  const Components cores = connect(core_voxels, probability.grid);
  const Components all = connect(voxels, probability.grid);
  std::vector<Index> core_group(cores.sizes.size(), kNoGroup);
  std::vector<Index> component_group(all.sizes.size(), kNoGroup);
  count = 0;
  for (std::size_t core = 0; core < cores.sizes.size(); ++core)
    if (cores.sizes[core] >= kMinCoreVoxels) core_group[core] = count++;

  std::vector<Index> group(voxels.size(), kNoGroup);
  std::vector<bool> has_core(all.sizes.size());
  for (std::size_t k = 0, c = 0; k < voxels.size(); ++k) {
    if (c == core_voxels.size() || voxels[k] != core_voxels[c]) continue;
    group[k] = core_group[cores.of(c++)];
    if (group[k] != kNoGroup) has_core[all.of(k)] = true;
  }
  for (std::size_t component = 0; component < all.sizes.size(); ++component)
    if (!has_core[component]) component_group[component] = count++;
  for (std::size_t k = 0; k < voxels.size(); ++k)
    if (group[k] == kNoGroup) group[k] = component_group[all.of(k)];
  return group;
}

// Whether there is lung in the box that reaches kNearLungMm to each side.
bool is_near_lung(const Lung& lung, const Irc& irc) {
  Box box;
  for (std::size_t k = 0; k < 3; ++k) {
    const auto reach = static_cast<Index>(kNearLungMm / lung.grid.spacing_xyz[2 - k]);
    box.low[k] = std::max<Index>(irc[k] - reach, 0);
    box.high[k] = std::min(irc[k] + reach + 1, lung.grid.shape[k]);
  }
  for (Index i = box.low[0]; i < box.high[0]; ++i)
    for (Index r = box.low[1]; r < box.high[1]; ++r) {
      const auto first = lung.voxels.begin() + lung.grid.offset({i, r, box.low[2]});
      if (std::any_of(first, first + box.shape()[2], [](std::uint8_t in) { return in != 0; })) return true;
    }
  return false;
}

std::vector<Group> measure(const Probability& probability, const Lung& lung) {
  const std::vector<Index> voxels = voxels_from(probability.voxels, kThreshold);
  Index count = 0;
  const std::vector<Index> group = group_voxels(voxels, probability, count);
  std::vector<Group> groups(static_cast<std::size_t>(count));
  const auto each = [&](auto&& add) {
    for (std::size_t k = 0; k < voxels.size(); ++k)
      if (group[k] != kNoGroup)
        add(groups[static_cast<std::size_t>(group[k])], probability.grid.voxel(voxels[k]),
            static_cast<double>(probability.voxels[static_cast<std::size_t>(voxels[k])]));
  };
  each([&](Group& sums, const Irc& irc, double weight) {
    for (std::size_t k = 0; k < 3; ++k) sums.weighted_irc[k] += weight * static_cast<double>(irc[k]);
    sums.mass += weight;
    sums.score = std::max(sums.score, weight);
    ++sums.voxels;
    sums.near += is_near_lung(lung, irc);
  });
  each([](Group& sums, const Irc&, double weight) { sums.in_mask += weight >= sums.level(); });
  return groups;
}

bool is_at_lung(const Group& group) {
  return static_cast<double>(group.near) / static_cast<double>(group.voxels) >= kShareNearLung;
}

Candidate candidate_of(const Group& group, const Grid& grid) {
  Point center_irc = group.weighted_irc;
  for (double& place : center_irc) place /= group.mass;
  const auto [x, y, z] = grid.spacing_xyz;
  const double volume_mm3 = static_cast<double>(group.in_mask) * (x * y * z);
  return {grid.to_xyz(center_irc), group.score, volume_mm3, std::cbrt(6 * volume_mm3 / kPi)};
}

}  // namespace

std::vector<Candidate> propose(const Probability& probability, const Lung& lung) {
  std::vector<Candidate> candidates;
  for (const Group& group : measure(probability, lung))
    if (is_at_lung(group)) candidates.push_back(candidate_of(group, probability.grid));
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.probability > b.probability; });
  candidates.resize(std::min(candidates.size(), kMostCandidates));
  return candidates;
}

}  // namespace luna
