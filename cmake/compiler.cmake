# candela_compiler: an interface target with the warnings, the sanitizers and strict floating point that all own code is built with.
add_library(candela_compiler INTERFACE)
target_compile_options(candela_compiler INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Werror -fno-fast-math -ffp-contract=off)

if(CANDELA_SANITIZE STREQUAL "address")
  set(candela_sanitizer_flags -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
elseif(CANDELA_SANITIZE STREQUAL "thread")
  set(candela_sanitizer_flags -fsanitize=thread -fno-omit-frame-pointer)
elseif(NOT CANDELA_SANITIZE STREQUAL "")
  message(FATAL_ERROR "CANDELA_SANITIZE must be address, thread or empty; got ${CANDELA_SANITIZE}")
endif()
if(candela_sanitizer_flags)
  add_compile_options(${candela_sanitizer_flags})
  add_link_options(${candela_sanitizer_flags})
endif()
