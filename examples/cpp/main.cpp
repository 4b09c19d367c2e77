// Candidates for nodules of one prepared CT, without Python. Research only, not a medical device.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "metaimage.hpp"
#include "network.hpp"
#include "propose.hpp"
#include "segment.hpp"
#include "tiles.hpp"

namespace {

namespace fs = std::filesystem;

constexpr const char* kUsage = "usage: luna_propose MODEL CT.mhd LUNG.mhd CANDIDATES.csv [--threads N]";

struct Arguments {
  fs::path model, ct, lung, output;
  int threads = 1;
};

int parse_threads(const std::string& text) {
  const bool is_number = text.find_first_not_of("0123456789") == std::string::npos;
  const int threads = is_number && !text.empty() && text.size() < 5 ? std::stoi(text) : 0;
  if (threads < 1) throw std::runtime_error("--threads is '" + text + "'; wanted a number from 1 to 9999");
  return threads;
}

Arguments parse(std::vector<std::string> words) {
  Arguments found;
  found.threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  if (words.size() == 6 && words[4] == "--threads") {
    found.threads = parse_threads(words[5]);
    words.resize(4);
  }
  if (words.size() != 4) throw std::runtime_error(kUsage);
  found.model = words[0];
  found.ct = words[1];
  found.lung = words[2];
  found.output = words[3];
  return found;
}

// The table of candidates, whole or not at all.
class Table {
 public:
  explicit Table(const fs::path& path) : path_(path), part_(path.string() + ".part"), file_(part_) {
    if (!file_ || fs::is_directory(path)) fail();
  }
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;
  ~Table() { remove_part(); }

  void write(const std::vector<luna::Candidate>& candidates) {
    file_ << "coordX,coordY,coordZ,probability,volume_mm3,diameter_mm\n" << std::setprecision(9);
    for (const luna::Candidate& one : candidates) {
      for (const double mm : one.center_xyz) file_ << mm << ',';
      file_ << one.probability << ',' << one.volume_mm3 << ',' << one.diameter_mm << '\n';
    }
    file_.close();
    std::error_code error;
    if (file_) fs::rename(part_, path_, error);
    if (!file_ || error) fail();
  }

 private:
  // Nothing is left of it once it was renamed.
  void remove_part() const {
    std::error_code error;
    fs::remove(part_, error);
  }

  [[noreturn]] void fail() const {
    remove_part();  // a constructor that throws has no destructor
    throw std::runtime_error(path_.string() + ": cannot be written");
  }

  fs::path path_, part_;
  std::ofstream file_;
};

class Stopwatch {
 public:
  // Seconds since it was made, or last asked.
  double lap() {
    const auto now = Clock::now();
    const std::chrono::duration<double> passed = now - start_;
    start_ = now;
    return passed.count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

// Of this process so far, as Linux counts it; elsewhere 0. (getrusage counts what has started it, too.)
double peak_megabytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmHWM:", 0) == 0) return std::stod(line.substr(6)) * 1024 / 1e6;
  return 0;
}

void run(const Arguments& arguments) {
  Stopwatch stopwatch;
  const luna::Ct ct = luna::read_ct(arguments.ct);
  const luna::Lung lung = luna::read_lung(arguments.lung);
  luna::check_same_grid(ct.grid, lung.grid);
  Table table(arguments.output);  // before minutes of work
  const auto network = luna::load_network(arguments.model, arguments.threads);
  const double loading = stopwatch.lap();
  const std::vector<luna::Tile> tiles = luna::plan_tiles(lung);
  const luna::Probability probability = luna::segment(*network, ct, tiles);
  const double segmentation = stopwatch.lap();
  const std::vector<luna::Candidate> candidates = luna::propose(probability, lung);
  table.write(candidates);
  std::cout << std::fixed << std::setprecision(2) << candidates.size() << " candidates, " << tiles.size()
            << " tiles; loading " << loading << " s, segmentation " << segmentation << " s, candidates "
            << stopwatch.lap() << " s; peak memory " << std::setprecision(0) << peak_megabytes() << " MB\n";
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(parse({argv + 1, argv + argc}));
    return EXIT_SUCCESS;
  } catch (const std::exception& error) {
    std::cerr << "luna_propose: " << error.what() << '\n';
    return EXIT_FAILURE;
  }
}
