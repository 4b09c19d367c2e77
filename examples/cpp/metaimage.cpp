#include "metaimage.hpp"

#include <cmath>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>

namespace luna {
namespace {

namespace fs = std::filesystem;
using Fields = std::map<std::string, std::string>;

constexpr double kVoxelMm = 1.0;      // what the network has learnt from
constexpr double kTolerance = 1e-3;   // of mm and of directions
constexpr Index kLongestSide = 1 << 15;

[[noreturn]] void fail(const fs::path& path, const std::string& what) {
  throw std::runtime_error(path.string() + ": " + what);
}

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

Fields read_fields(const fs::path& header) {
  std::ifstream file(header);
  if (!file) fail(header, "cannot be read; wanted a .mhd header");
  Fields fields;
  for (std::string line; std::getline(file, line) && fields.count("ElementDataFile") == 0;) {
    const auto equals = line.find('=');
    if (equals == std::string::npos) fail(header, "a line without '='; wanted 'Key = value' in each");
    fields[trimmed(line.substr(0, equals))] = trimmed(line.substr(equals + 1));
  }
  return fields;
}

const std::string& value(const fs::path& header, const Fields& fields, const std::string& key) {
  const auto found = fields.find(key);
  if (found == fields.end()) fail(header, "no " + key + "; wanted one");
  return found->second;
}

void check_is(
    const fs::path& header, const Fields& fields, const std::string& key, const std::string& wanted) {
  const std::string& found = value(header, fields, key);
  if (found != wanted) fail(header, key + " is " + found + "; wanted " + wanted);
}

template <typename Number, std::size_t N>
std::array<Number, N> numbers(const fs::path& header, const Fields& fields, const std::string& key) {
  const std::string& text = value(header, fields, key);
  std::istringstream stream(text);
  std::array<Number, N> found{};
  for (Number& number : found) stream >> number;
  if (!stream || !(stream >> std::ws).eof())
    fail(header, key + " is '" + text + "'; wanted " + std::to_string(N) + " numbers");
  return found;
}

void check_direction(const fs::path& header, const std::array<Point, 3>& direction) {
  for (std::size_t a = 0; a < 3; ++a)
    for (std::size_t b = a; b < 3; ++b) {
      double product = 0;
      for (std::size_t k = 0; k < 3; ++k) product += direction[a][k] * direction[b][k];
      if (!(std::abs(product - (a == b ? 1 : 0)) < kTolerance))
        fail(header, "TransformMatrix is not orthonormal; wanted three unit steps at right angles");
    }
  for (std::size_t k = 0; k < 3; ++k)
    if (!(direction[k][k] > 0))
      fail(header, "TransformMatrix does not run left, back and up; wanted columns, rows and slices that do");
}

Grid read_grid(const fs::path& header, const Fields& fields) {
  const auto size = numbers<Index, 3>(header, fields, "DimSize");
  const auto matrix = numbers<double, 9>(header, fields, "TransformMatrix");
  Grid grid;
  grid.shape = {size[2], size[1], size[0]};
  grid.spacing_xyz = numbers<double, 3>(header, fields, "ElementSpacing");
  grid.origin_xyz = numbers<double, 3>(header, fields, "Offset");
  for (std::size_t k = 0; k < 9; ++k) grid.direction[k / 3][k % 3] = matrix[k];
  check_direction(header, grid.direction);
  for (const Index side : grid.shape)
    if (side < 1 || side > kLongestSide)
      fail(header, "a side of " + std::to_string(side) + "; wanted 1 to " + std::to_string(kLongestSide));
  for (const double mm : grid.spacing_xyz)
    if (!(std::abs(mm - kVoxelMm) < kTolerance))
      fail(header, "ElementSpacing has " + std::to_string(mm) + " mm; wanted 1 mm along each axis");
  return grid;
}

bool is_big_endian_here() {
  const std::uint16_t one = 1;
  return *reinterpret_cast<const std::uint8_t*>(&one) == 0;
}

template <typename Voxel>
std::vector<Voxel> read_voxels(const fs::path& path, Index count) {
  std::error_code error;
  const auto bytes = fs::file_size(path, error);
  if (error) fail(path, "cannot be read; wanted the voxels of its header");
  const auto wanted = static_cast<std::uintmax_t>(count) * sizeof(Voxel);
  if (bytes != wanted) fail(path, std::to_string(bytes) + " bytes; wanted " + std::to_string(wanted));
  std::vector<Voxel> voxels(static_cast<std::size_t>(count));
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(voxels.data()), static_cast<std::streamsize>(wanted));
  if (!file) fail(path, "cannot be read to its end");
  return voxels;
}

template <typename Voxel>
Volume<Voxel> read_volume(const fs::path& header, const std::string& type) {
  if (is_big_endian_here()) fail(header, "little-endian voxels, unlike this computer; wanted the same");
  const Fields fields = read_fields(header);
  check_is(header, fields, "NDims", "3");
  check_is(header, fields, "CompressedData", "False");
  check_is(header, fields, "BinaryDataByteOrderMSB", "False");
  check_is(header, fields, "ElementType", type);
  const std::string& name = value(header, fields, "ElementDataFile");
  if (name == "LOCAL") fail(header, "holds its voxels itself; wanted them in a .raw file beside it");
  const Grid grid = read_grid(header, fields);
  return {grid, read_voxels<Voxel>(header.parent_path() / name, grid.size())};
}

std::string sides(const Grid& grid) {
  const auto [d, h, w] = grid.shape;
  return std::to_string(d) + " x " + std::to_string(h) + " x " + std::to_string(w);
}

}  // namespace

Ct read_ct(const fs::path& header) { return read_volume<std::int16_t>(header, "MET_SHORT"); }

Lung read_lung(const fs::path& header) { return read_volume<std::uint8_t>(header, "MET_UCHAR"); }

void check_same_grid(const Grid& ct, const Grid& lung) {
  if (ct.shape != lung.shape)
    throw std::runtime_error("the lung mask is " + sides(lung) + " voxels; wanted " + sides(ct) +
                             ", as the CT");
  std::array<Point, 4> corners{};  // the first voxel, and the last along each axis
  for (std::size_t axis = 0; axis < 3; ++axis)
    corners[axis][axis] = static_cast<double>(ct.shape[axis] - 1);
  for (const Point& irc : corners) {
    const Point one = ct.to_xyz(irc);
    const Point other = lung.to_xyz(irc);
    for (std::size_t k = 0; k < 3; ++k)
      if (!(std::abs(one[k] - other[k]) < kVoxelMm / 10))
        throw std::runtime_error("the lung mask lies elsewhere than the CT; wanted the same grid");
  }
}

}  // namespace luna
