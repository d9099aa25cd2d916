// clang calls this where a translated shader indexes one of its own arrays out of bounds
// (-fsanitize=array-bounds with the minimal run time).

#include "execution.h"

extern "C" [[noreturn, gnu::visibility("default")]] void __ubsan_handle_out_of_bounds_minimal_abort() {
  emulator::current_launch->fault("an index is out of the bounds of an array of the thread or of a struct");
}
