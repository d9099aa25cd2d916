#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace candela {

/// A series of a plot: points (x, y) in order of x.
struct CurveSeries {
  std::string name;
  std::vector<std::pair<double, double>> points;
};

/// Training and validation loss over the steps as an SVG picture, written aside and renamed. Throws IoError.
void write_loss_curve(const std::filesystem::path& path, const std::string& title,
                      const std::vector<CurveSeries>& series);

}  // namespace candela
