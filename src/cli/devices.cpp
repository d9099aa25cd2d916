#include <candela/core/device.h>

#include "backend/backend.h"
#include "backend/cpu/device.h"
#include "cli/command.h"
#include "cli/output.h"

namespace candela::cli {

void add_devices(CLI::App& app, Action& action) {
  CLI::App* command =
      app.add_subcommand("devices", "List the devices that this build can use on this machine");
  command->footer(
      "Example:\n  candela devices\nThe first column is what --device takes. CANDELA_MAX_CPU_ISA=sse4, avx2, "
      "avx512 or avx512_bf16 holds the CPU to a lesser instruction set.");
  command->callback([&action] {
    action = [] {
      for (const Device device : available_devices()) {
        print_out("{:<10} {}\n", device, device_interface(device).description());
        if (device.type != DeviceType::Cpu) continue;
        for (const auto& [name, value] : cpu_details(backend(device).kernels()))
          print_out("{:<10} {}: {}\n", "", name, value);
      }
    };
  });
}

}  // namespace candela::cli
