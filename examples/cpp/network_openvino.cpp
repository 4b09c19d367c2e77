#include <openvino/openvino.hpp>
#include <stdexcept>

#include "network.hpp"

namespace luna {
namespace {

class OpenVino final : public Network {
 public:
  OpenVino(const std::filesystem::path& model, int threads) {
    const ov::AnyMap settings{ov::hint::inference_precision(ov::element::f32),
                              ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
                              ov::inference_num_threads(threads)};
    request_ = core_.compile_model(core_.read_model(model.string()), "CPU", settings).create_infer_request();
  }

  std::vector<float> logits(std::vector<float>& hu, const Irc& shape) override {
    ov::Shape sides{1, 1};
    for (const Index side : shape) sides.push_back(static_cast<std::size_t>(side));
    request_.set_input_tensor(ov::Tensor(ov::element::f32, sides, hu.data()));
    request_.infer();
    const ov::Tensor answer = request_.get_output_tensor(0);
    if (answer.get_shape() != sides)
      throw std::runtime_error("its answer is not of its input's shape");
    const float* first = answer.data<const float>();
    return {first, first + answer.get_size()};
  }

 private:
  ov::Core core_;
  ov::InferRequest request_;
};

}  // namespace

std::unique_ptr<Network> load_network(const std::filesystem::path& model, int threads) {
  if (model.extension() != ".xml")
    throw std::runtime_error(model.string() + ": not .xml; wanted a network exported as openvino");
  try {
    return std::make_unique<OpenVino>(model, threads);
  } catch (const ov::Exception&) {
    throw std::runtime_error(model.string() + ": cannot be loaded; wanted a network exported as openvino");
  }
}

}  // namespace luna
