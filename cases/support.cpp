#include "cases/support.h"

#include <algorithm>

#include <candela/autograd/backward.h>
#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/ops/copy.h>

#include "cases/op_case.h"
#include "cases/runs.h"

namespace candela::cases {
namespace {

/// elements: larger inputs are left to the tests
constexpr std::int64_t kLargest = 10000;
constexpr std::string_view kTitle = "# What runs where";
constexpr std::string_view kNote =
    "Made by `candela_support --write docs/support.md`; a test fails when it is out of date. A cell names "
    "the implementations that served the op's\n"
    "cases, with the dtypes in brackets where not every dtype took it. *composed*: plain ops stand in. "
    "*plain ops*: the gradient is made of other\n"
    "ops. *throws*: no gradient, the forward call says so. *none*: the result carries no gradient. Columns "
    "marked *emulated* were run against the\n"
    "stand-in in `emulator/`, not on the hardware.";

std::string device_label(Device device) {
  switch (device.type) {
    case DeviceType::Cpu:
#if defined(__APPLE__)
      return "cpu (macOS)";
#else
      return "cpu";
#endif
    case DeviceType::Metal:
#if defined(CANDELA_EMULATED_METAL)
      return "metal (emulated)";
#else
      return "metal";
#endif
    default:
      return to_string(Device{device.type, 0});
  }
}

/// What served one op on one device in one direction: by implementation, the dtypes it took.
struct Served {
  std::vector<std::string> order;
  std::map<std::string, std::vector<DType>> dtypes;

  void add(const std::string& name, DType dtype) {
    if (std::find(order.begin(), order.end(), name) == order.end()) order.push_back(name);
    std::vector<DType>& list = dtypes[name];
    if (std::find(list.begin(), list.end(), dtype) == list.end()) list.push_back(dtype);
  }

  /// The implementations in the order of preference of their list.
  void sort_by(const RunCounts& counts, const std::string& list) {
    const auto known = counts.find(list);
    if (known == counts.end()) return;
    const auto place = [&](const std::string& name) {
      return std::find_if(known->second.begin(), known->second.end(),
                          [&](const auto& run) { return run.name == name; });
    };
    std::stable_sort(order.begin(), order.end(),
                     [&](const std::string& a, const std::string& b) { return place(a) < place(b); });
  }

  std::string to_string(const std::vector<DType>& all) const {
    std::string text;
    for (const std::string& name : order) {
      if (!text.empty()) text += ", ";
      text += name;
      const std::vector<DType>& list = dtypes.at(name);
      if (list.size() == all.size()) continue;
      std::string inside;
      for (const DType dtype : list)
        inside += (inside.empty() ? "" : ", ") + std::string(candela::to_string(dtype));
      text += " (" + inside + ")";
    }
    return text.empty() ? "-" : text;
  }
};

bool small(const OpCase& op_case) {
  return std::all_of(op_case.inputs.begin(), op_case.inputs.end(),
                     [](const Input& input) { return numel(input.shape) <= kLargest; });
}

void serve_forward(const OpCase& op_case, DType dtype, Device device, Served& served) {
  const BuiltInputs inputs = build_inputs(op_case, dtype, device);
  const NoGrad guard;
  const RunCounts before = count_runs(device);
  std::vector<Tensor> outputs;
  try {
    outputs = op_case.fused(inputs.device);
  } catch (const Unsupported&) {
    served.add("not supported", dtype);
    return;
  }
  const std::vector<std::string> names = ran_between(before, count_runs(device), op_case.kernel);
  for (const std::string& name : names) served.add(name, dtype);
  if (!names.empty()) return;
  // Nothing runs where an input is empty or has one element to reduce, or where the result is the input
  // itself.
  const bool any =
      std::all_of(inputs.device.begin(), inputs.device.end(), [](const Tensor& x) { return x.numel() > 1; });
  const bool is_view = !outputs.empty() && outputs[0].storage() == inputs.device[0].storage();
  if (is_view && op_case.kernel == "copy") served.add("view", dtype);
  // Reductions and copies never fall back: one that ran nothing had nothing to do.
  const bool never_composed = op_case.kernel == "reduce" || op_case.kernel == "copy";
  if (!is_view && any && !never_composed) served.add("composed", dtype);
}

void serve_backward(const OpCase& op_case, DType dtype, Device device, Served& served) {
  if (op_case.gradient == Gradient::Refused) return served.add("throws", dtype);
  if (op_case.gradient == Gradient::Cut) return served.add("none", dtype);
  if (op_case.kernel_grad.empty()) return served.add("plain ops", dtype);
  BuiltInputs inputs = build_inputs(op_case, dtype, device);
  for (std::size_t i = 0; i < inputs.device.size(); ++i) {
    if (inputs.device[i].numel() == 0) return;
    if (op_case.inputs[i].gradient) inputs.device[i].set_requires_grad(true);
  }
  RunCounts before = count_runs(device);
  try {
    const std::vector<Tensor> outputs = op_case.fused(inputs.device);
    // An op whose gradient is the same kernel may compute it on the way forward.
    if (op_case.kernel_grad != op_case.kernel) before = count_runs(device);
    const auto last =
        std::find_if(outputs.rbegin(), outputs.rend(), [](const Tensor& x) { return x.requires_grad(); });
    if (last != outputs.rend()) backward(*last);
  } catch (const Unsupported&) {
    served.add("not supported", dtype);
    return;
  }
  const std::vector<std::string> names = ran_between(before, count_runs(device), op_case.kernel_grad);
  for (const std::string& name : names) served.add(name, dtype);
  if (names.empty()) served.add("composed", dtype);
}

std::vector<std::string> split_cells(std::string_view line) {
  std::vector<std::string> cells;
  line.remove_prefix(1);
  while (!line.empty()) {
    const auto bar = line.find('|');
    if (bar == std::string_view::npos) break;
    std::string_view cell = line.substr(0, bar);
    while (cell.starts_with(' ')) cell.remove_prefix(1);
    while (cell.ends_with(' ')) cell.remove_suffix(1);
    cells.emplace_back(cell);
    line.remove_prefix(bar + 1);
  }
  return cells;
}

const SupportRow* find_row(const SupportTable& table, const std::string& op) {
  const auto found =
      std::find_if(table.rows.begin(), table.rows.end(), [&](const SupportRow& row) { return row.op == op; });
  return found == table.rows.end() ? nullptr : &*found;
}

bool has_column(const SupportTable& table, const std::string& column) {
  return std::find(table.columns.begin(), table.columns.end(), column) != table.columns.end();
}

std::string cell_of(const SupportRow& row, const std::string& column) {
  const auto found = row.cells.find(column);
  return found == row.cells.end() ? "-" : found->second;
}

}  // namespace

SupportTable find_support() {
  SupportTable table;
  table.preface = fmt::format("{}\n\n{}\n\n", kTitle, kNote);
  const std::vector<Device> devices = available_devices();
  for (const Device device : devices) {
    if (device.index != 0) continue;
    table.columns.push_back(device_label(device) + " forward");
    table.columns.push_back(device_label(device) + " backward");
  }
  for (const Family& family : families()) {
    std::vector<std::string> ops;
    for (const OpCase& op_case : cases_of(family.name)) {
      if (std::find(ops.begin(), ops.end(), op_case.op) == ops.end()) ops.push_back(op_case.op);
    }
    for (const std::string& op : ops) {
      SupportRow row{std::string(family.name), op, {}};
      for (const Device device : devices) {
        if (device.index != 0) continue;
        Served forward;
        Served backward;
        std::vector<DType> dtypes;
        for (const OpCase& op_case : cases_of(family.name)) {
          if (op_case.op != op || op_case.bench || !small(op_case)) continue;
          for (const DType dtype : op_case.dtypes) {
            if (std::find(dtypes.begin(), dtypes.end(), dtype) == dtypes.end()) dtypes.push_back(dtype);
            serve_forward(op_case, dtype, device, forward);
            serve_backward(op_case, dtype, device, backward);
          }
          forward.sort_by(count_runs(device), op_case.kernel);
          backward.sort_by(count_runs(device), op_case.kernel_grad);
        }
        row.cells[device_label(device) + " forward"] = forward.to_string(dtypes);
        row.cells[device_label(device) + " backward"] = backward.to_string(dtypes);
      }
      table.rows.push_back(std::move(row));
    }
  }
  return table;
}

std::string to_markdown(const SupportTable& table) {
  std::string text = table.preface + "| family | op |";
  for (const std::string& column : table.columns) text += fmt::format(" {} |", column);
  text += "\n|---|---|";
  for (std::size_t i = 0; i < table.columns.size(); ++i) text += "---|";
  text += "\n";
  for (const SupportRow& row : table.rows) {
    text += fmt::format("| {} | {} |", row.family, row.op);
    for (const std::string& column : table.columns) text += fmt::format(" {} |", cell_of(row, column));
    text += "\n";
  }
  return text;
}

SupportTable parse_support(std::string_view markdown) {
  SupportTable table;
  bool header = true;
  for (int number = 1; !markdown.empty(); ++number) {
    const auto end = std::min(markdown.find('\n'), markdown.size());
    const std::string_view line = markdown.substr(0, end);
    markdown.remove_prefix(std::min(end + 1, markdown.size()));
    if (header && !line.starts_with('|')) table.preface += std::string(line) + "\n";
    if (!line.starts_with('|') || line.starts_with("|---")) continue;
    std::vector<std::string> cells = split_cells(line);
    require<IoError>(cells.size() >= 2 && (header || cells.size() == table.columns.size() + 2),
                     "support table: line {} must have {} cells; got {}", number, table.columns.size() + 2,
                     cells.size());
    if (header) {
      table.columns.assign(cells.begin() + 2, cells.end());
      header = false;
      continue;
    }
    SupportRow row{cells[0], cells[1], {}};
    for (std::size_t i = 0; i < table.columns.size(); ++i) row.cells[table.columns[i]] = cells[i + 2];
    table.rows.push_back(std::move(row));
  }
  return table;
}

SupportTable merge_support(SupportTable own, const SupportTable& other) {
  for (const std::string& column : other.columns) {
    if (has_column(own, column)) continue;
    own.columns.push_back(column);
    for (SupportRow& row : own.rows) {
      const SupportRow* theirs = find_row(other, row.op);
      row.cells[column] = theirs == nullptr ? "-" : cell_of(*theirs, column);
    }
  }
  return own;
}

std::string differences(const SupportTable& own, const SupportTable& committed) {
  std::string text;
  if (own.preface != committed.preface)
    text += fmt::format("the text above the table must read:\n{}", own.preface);
  for (const SupportRow& row : own.rows) {
    const SupportRow* theirs = find_row(committed, row.op);
    if (theirs == nullptr) {
      text += fmt::format("{}: the case lists have it, the table does not\n", row.op);
      continue;
    }
    for (const std::string& column : own.columns) {
      if (!has_column(committed, column)) continue;
      const std::string expected = cell_of(row, column);
      const std::string found = cell_of(*theirs, column);
      if (expected != found)
        text += fmt::format("{}, {}: the table says \"{}\", found \"{}\"\n", row.op, column, found, expected);
    }
  }
  for (const SupportRow& row : committed.rows) {
    if (find_row(own, row.op) == nullptr)
      text += fmt::format("{}: the table has it, the case lists do not\n", row.op);
  }
  return text;
}

}  // namespace candela::cases
