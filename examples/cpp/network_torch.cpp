#include <ATen/Parallel.h>
#include <torch/script.h>

#include <stdexcept>

#include "network.hpp"

namespace luna {
namespace {

class Torch final : public Network {
 public:
  explicit Torch(const std::filesystem::path& model) {
    torch::jit::Module loaded = torch::jit::load(model.string());
    loaded.eval();
    module_ = torch::jit::freeze(loaded);  // weights become constants, batch norms part of convolutions
  }

  std::vector<float> logits(std::vector<float>& hu, const Irc& shape) override {
    const c10::InferenceMode no_gradients;
    // Else the first passes record what they meet and recompile it for each size of tile.
    const torch::jit::GraphOptimizerEnabledGuard as_it_is(false);
    const torch::Tensor input = torch::from_blob(hu.data(), {1, 1, shape[0], shape[1], shape[2]});
    torch::Tensor answer;
    try {
      answer = module_.forward({input}).toTensor().contiguous();
    } catch (const c10::Error& error) {
      throw std::runtime_error(error.what_without_backtrace());
    }
    if (answer.sizes() != input.sizes())
      throw std::runtime_error("its answer is not of its input's shape");
    const float* first = answer.const_data_ptr<float>();
    return {first, first + answer.numel()};
  }

 private:
  torch::jit::Module module_;
};

}  // namespace

std::unique_ptr<Network> load_network(const std::filesystem::path& model, int threads) {
  at::set_num_threads(threads);
  try {
    return std::make_unique<Torch>(model);
  } catch (const c10::Error&) {
    throw std::runtime_error(model.string() + ": cannot be loaded; wanted a network exported as torchscript");
  }
}

}  // namespace luna
