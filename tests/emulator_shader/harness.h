#pragma once
// Bindings and launches for the tests of the shader stand-in.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <ctime>
#include <deque>
#include <gtest/gtest.h>
#include <random>

#include "kernel.h"
#include "metal/scalar.h"

namespace shader_test {

using emulator::Binding;
using emulator::Grid;
using emulator::ShaderFault;
using emulator::Size3;

/// A kernel with what is bound to it.
class Dispatch {
 public:
  explicit Dispatch(std::string_view name) : kernel_(emulator::find_kernel(name)) {
    if (kernel_ == nullptr) throw std::runtime_error("no kernel " + std::string(name));
  }

  template <class T>
  Dispatch& bind(std::size_t index, std::vector<T>& values) {
    return bind(index, values.data(), values.size() * sizeof(T));
  }
  Dispatch& bind(std::size_t index, void* data, std::size_t bytes) {
    if (bindings_.size() <= index) bindings_.resize(index + 1);
    bindings_[index] = {static_cast<std::byte*>(data), bytes, true, ""};
    return *this;
  }
  /// What setBytes does: a copy.
  template <class T>
  Dispatch& value(std::size_t index, const T& v) {
    std::vector<std::byte>& copy = copies_.emplace_back(sizeof(T));
    std::memcpy(copy.data(), &v, sizeof(T));
    return bind(index, copy.data(), copy.size());
  }
  Dispatch& threadgroup(std::size_t index, std::size_t bytes) {
    if (lengths_.size() <= index) lengths_.resize(index + 1);
    lengths_[index] = bytes;
    return *this;
  }
  template <class T>
  Dispatch& constant(std::uint32_t index, emulator::ScalarType type, T v) {
    constants.set(index, type, &v);
    return *this;
  }
  void groups(Size3 groups, Size3 threads) {
    emulator::launch(*kernel_, bindings_, lengths_, constants, Grid::of_threadgroups(groups, threads));
  }
  void threads(Size3 threads, Size3 per_group) {
    emulator::launch(*kernel_, bindings_, lengths_, constants, Grid::of_threads(threads, per_group));
  }

  emulator::FunctionConstants constants;

 private:
  const emulator::Kernel* kernel_;
  std::vector<Binding> bindings_;
  std::vector<std::size_t> lengths_;
  std::deque<std::vector<std::byte>> copies_;
};

/// Runs `launch`, which must be refused, and checks that the text has each of the parts.
template <class F>
void expect_fault(F launch, std::initializer_list<const char*> parts) {
  try {
    launch();
  } catch (const ShaderFault& fault) {
    const std::string text = fault.what();
    for (const char* part : parts)
      EXPECT_NE(text.find(part), text.npos) << "'" << part << "' is not in: " << text;
    return;
  }
  ADD_FAILURE() << "nothing was refused";
}

inline std::vector<float> random_values(std::size_t count, std::uint32_t seed, float low = -1,
                                        float high = 1) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> values(low, high);
  std::vector<float> out(count);
  std::generate(out.begin(), out.end(), [&] { return values(random); });
  return out;
}

/// a [m, k] times b [k, n] in double.
template <class T>
std::vector<double> product(const std::vector<T>& a, const std::vector<T>& b, std::size_t m, std::size_t n,
                            std::size_t k) {
  std::vector<double> out(m * n);
  for (std::size_t i = 0; i < m; ++i) {
    for (std::size_t l = 0; l < k; ++l) {
      for (std::size_t j = 0; j < n; ++j) {
        out[i * n + j] += static_cast<double>(static_cast<float>(a[i * k + l])) *
                          static_cast<double>(static_cast<float>(b[l * n + j]));
      }
    }
  }
  return out;
}

template <class T>
void expect_close(const std::vector<T>& got, const std::vector<double>& expected, double of_largest) {
  ASSERT_EQ(got.size(), expected.size());
  double largest = 0, worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    const double error = std::abs(static_cast<double>(static_cast<float>(got[i])) - expected[i]);
    ASSERT_FALSE(std::isnan(error)) << "at " << i;
    worst = std::max(worst, error);
  }
  EXPECT_LE(worst, of_largest * largest);
}

/// The best of some runs, in processor time of all threads: what other programs on the machine do does not
/// count.
template <class F>
double best_milliseconds(F run, int times = 20) {
  double best = 1e300;
  for (int i = 0; i < times; ++i) {
    const std::clock_t start = std::clock();
    run();
    best = std::min(best, 1e3 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
  }
  return best;
}

}  // namespace shader_test
