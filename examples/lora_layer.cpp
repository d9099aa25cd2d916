// A LoRA layer on a device beside the CPU: example_lora_layer [DEVICE]. Compares the results, times the layer
// one call at a time and in batches, and prints what each implementation took (on a Mac: MPS and the native
// shaders).
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <vector>

#include <candela/candela.h>

namespace {

/// y = x w^T + 2 (x a^T) b^T; the same numbers on every device.
struct Layer {
  candela::Tensor x, weight;
  candela::LowRank adapter;

  explicit Layer(candela::Device device) {
    candela::Generator generator(7);
    const auto draw = [&](const candela::Shape& shape, double deviation) {
      return candela::to_device(candela::normal(shape, generator, 0, deviation), device);
    };
    x = draw({256, 512}, 1);
    weight = draw({512, 512}, 0.04);
    adapter = {draw({8, 512}, 0.04), draw({512, 8}, 0.1), 2.0};
  }
  candela::Tensor forward() const { return candela::lora_linear(x, weight, {}, {&adapter, 1}); }
};

/// Microseconds of a call, waiting after every `batch` of them.
double microseconds(const Layer& layer, candela::Device device, int batch) {
  constexpr int kCalls = 64;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kCalls; i += batch) {
    candela::Tensor last;
    for (int j = 0; j < batch; ++j) last = layer.forward();
    candela::device_interface(device).synchronize();
  }
  const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - start;
  return spent.count() / kCalls;
}

}  // namespace

int main(int argc, char** argv) try {
  const candela::Device device = candela::parse_device(argc > 1 ? argv[1] : "cpu");
  const candela::NoGrad guard;
  const Layer there(device);
  const std::vector<float> expected = Layer(candela::Device::cpu()).forward().to_vector<float>();
  const std::vector<float> got = there.forward().to_vector<float>();
  float error = 0;
  float largest = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    error = std::max(error, std::fabs(got[i] - expected[i]));
    largest = std::max(largest, std::fabs(expected[i]));
  }
  std::printf("%s: %s\n", candela::to_string(device).c_str(),
              candela::device_interface(device).description().c_str());
  std::printf("largest difference from the CPU: %.1e of the largest result\n", error / largest);
  std::printf("one call and one wait: %.0f us; 64 calls and one wait: %.0f us a call\n",
              microseconds(there, device, 1), microseconds(there, device, 64));
  // With tuning on, every implementation that takes the layer is measured and written down.
  const std::filesystem::path file = std::filesystem::temp_directory_path() / "candela-lora-layer.tsv";
  std::filesystem::remove(file);
  candela::enable_tuning(file);
  there.forward();
  candela::device_interface(device).synchronize();
  candela::disable_tuning();
  std::ifstream measured(file);
  for (std::string line; std::getline(measured, line);) std::printf("%s\n", line.c_str());
  std::filesystem::remove(file);
  return error <= 1e-4F * largest ? 0 : 1;
} catch (const candela::Error& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
