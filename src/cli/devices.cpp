#include <candela/core/device.h>

#include "cli/command.h"
#include "cli/output.h"

namespace candela::cli {

void add_devices(CLI::App& app, Action& action) {
  CLI::App* command =
      app.add_subcommand("devices", "List the devices that this build can use on this machine");
  command->footer("Example:\n  candela devices\nThe first column is what --device takes.");
  command->callback([&action] {
    action = [] {
      for (const Device device : available_devices()) {
        print_out("{:<10} {}\n", device, device_interface(device).description());
      }
    };
  });
}

}  // namespace candela::cli
