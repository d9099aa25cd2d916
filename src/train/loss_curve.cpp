#include <algorithm>
#include <array>
#include <cmath>

#include <candela/core/atomic_file.h>
#include <candela/core/error.h>
#include <candela/train/loss_curve.h>

namespace candela {
namespace {

constexpr double kWidth = 860;
constexpr double kHeight = 420;
constexpr double kLeft = 64;
constexpr double kRight = 24;
constexpr double kTop = 52;
constexpr double kBottom = 48;
constexpr std::array kColours = {"#2f6fde", "#d9622b", "#2a9d5c", "#8a4fc4"};

struct Range {
  double low = 0;
  double high = 1;
};

/// 1, 2 or 5 times a power of ten: the distance between grid lines, about `count` of them.
double nice_step(double span, double count) {
  const double raw = span / count;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (raw <= factor * power) return factor * power;
  }
  return 10 * power;
}

Range range_of(const std::vector<CurveSeries>& series, bool horizontal) {
  Range range{1e300, -1e300};
  for (const CurveSeries& one : series) {
    for (const auto& [x, y] : one.points) {
      const double value = horizontal ? x : y;
      if (!std::isfinite(value)) continue;
      range.low = std::min(range.low, value);
      range.high = std::max(range.high, value);
    }
  }
  if (range.low > range.high) return {0, 1};
  if (!horizontal) range.low = std::min(range.low, 0.0);
  if (range.low == range.high) range.high = range.low + 1;
  return range;
}

std::string escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<') {
      out += "&lt;";
    } else if (c == '&') {
      out += "&amp;";
    } else {
      out += c;
    }
  }
  return out;
}

/// Maps data to picture coordinates.
struct Axes {
  Range x, y;

  double left(double value) const {
    return kLeft + (value - x.low) / (x.high - x.low) * (kWidth - kLeft - kRight);
  }
  double top(double value) const {
    return kHeight - kBottom - (value - y.low) / (y.high - y.low) * (kHeight - kTop - kBottom);
  }
};

std::string grid(const Axes& axes) {
  std::string out;
  const double step_y = nice_step(axes.y.high - axes.y.low, 6);
  for (double v = std::ceil(axes.y.low / step_y) * step_y; v <= axes.y.high + 1e-9; v += step_y) {
    out += fmt::format(R"(<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="#e3e6ea"/>)", kLeft,
                       axes.top(v), kWidth - kRight, axes.top(v));
    out += fmt::format(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="end">{:.4g}</text>)", kLeft - 8,
                       axes.top(v) + 4, v);
    out += '\n';
  }
  const double step_x = nice_step(axes.x.high - axes.x.low, 8);
  for (double v = std::ceil(axes.x.low / step_x) * step_x; v <= axes.x.high + 1e-9; v += step_x) {
    out += fmt::format(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="middle">{:.6g}</text>)", axes.left(v),
                       kHeight - kBottom + 20, v);
    out += '\n';
  }
  return out;
}

std::string polyline(const Axes& axes, const CurveSeries& series, std::size_t index) {
  std::string points;
  for (const auto& [x, y] : series.points) {
    if (std::isfinite(y)) points += fmt::format("{:.1f},{:.1f} ", axes.left(x), axes.top(y));
  }
  const char* colour = kColours[index % kColours.size()];
  std::string out =
      fmt::format(R"(<polyline fill="none" stroke="{}" stroke-width="1.8" points="{}"/>)", colour, points);
  const double x = kWidth - kRight - 170;
  const double y = kTop + 8 + 20 * static_cast<double>(index);
  out += fmt::format(R"(<rect x="{:.1f}" y="{:.1f}" width="14" height="4" fill="{}"/>)", x, y, colour);
  out += fmt::format(R"(<text x="{:.1f}" y="{:.1f}">{}</text>)", x + 22, y + 6, escape(series.name));
  return out + '\n';
}

}  // namespace

void write_loss_curve(const std::filesystem::path& path, const std::string& title,
                      const std::vector<CurveSeries>& series) {
  const Axes axes{range_of(series, true), range_of(series, false)};
  std::string svg = fmt::format(
      R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1}" width="{0}" height="{1}" font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#39424e">)",
      kWidth, kHeight);
  svg += fmt::format("\n<rect width=\"{}\" height=\"{}\" fill=\"#ffffff\"/>\n", kWidth, kHeight);
  svg += fmt::format("<text x=\"{}\" y=\"28\" font-size=\"16\" font-weight=\"bold\">{}</text>\n", kLeft,
                     escape(title));
  svg += grid(axes);
  for (std::size_t i = 0; i < series.size(); ++i) svg += polyline(axes, series[i], i);
  svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">step</text>\n</svg>\n",
                     kWidth / 2, kHeight - 10);
  write_file_atomically(path, svg);
}

}  // namespace candela
