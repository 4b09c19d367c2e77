#include "components.hpp"

#include <algorithm>
#include <numeric>

namespace luna {
namespace {

// A forest whose roots are the lowest of their trees.
class UnionFind {
 public:
  explicit UnionFind(std::size_t count) : parent_(count) { std::iota(parent_.begin(), parent_.end(), 0); }

  std::size_t root(std::size_t k) {
    while (parent_[k] != k) k = parent_[k] = parent_[parent_[k]];
    return k;
  }

  void join(std::size_t a, std::size_t b) {
    a = root(a);
    b = root(b);
    parent_[std::max(a, b)] = std::min(a, b);
  }

 private:
  std::vector<std::size_t> parent_;
};

// Join a voxel with those of its row at `row_irc` that touch it and come before it.
void join_row(
    UnionFind& forest, const std::vector<Index>& voxels, const Grid& grid, std::size_t k, Irc row_irc) {
  const Index last_col = std::min(row_irc[2] + 1, grid.shape[2] - 1);
  row_irc[2] = std::max<Index>(row_irc[2] - 1, 0);
  const Index first = grid.offset(row_irc);
  const Index last = std::min(first + last_col - row_irc[2], voxels[k] - 1);
  const auto end = voxels.begin() + static_cast<std::ptrdiff_t>(k);
  for (auto it = std::lower_bound(voxels.begin(), end, first); it != end && *it <= last; ++it)
    forest.join(k, static_cast<std::size_t>(it - voxels.begin()));
}

void join_with_earlier(UnionFind& forest, const std::vector<Index>& voxels, const Grid& grid, std::size_t k) {
  constexpr std::array<std::array<Index, 2>, 5> kRows{{{-1, -1}, {-1, 0}, {-1, 1}, {0, -1}, {0, 0}}};
  const Irc irc = grid.voxel(voxels[k]);
  for (const auto& [index, row] : kRows) {
    const Irc there{irc[0] + index, irc[1] + row, irc[2]};
    if (there[0] >= 0 && there[1] >= 0 && there[1] < grid.shape[1]) join_row(forest, voxels, grid, k, there);
  }
}

}  // namespace

Components connect(const std::vector<Index>& voxels, const Grid& grid) {
  UnionFind forest(voxels.size());
  for (std::size_t k = 0; k < voxels.size(); ++k) join_with_earlier(forest, voxels, grid, k);
  Components found;
  found.labels.resize(voxels.size());
  for (std::size_t k = 0; k < voxels.size(); ++k) {
    const std::size_t root = forest.root(k);
    if (root == k) {
      found.labels[k] = static_cast<Index>(found.sizes.size());
      found.sizes.push_back(0);
    }
    found.labels[k] = found.labels[root];
    ++found.sizes[found.of(k)];
  }
  return found;
}

}  // namespace luna
