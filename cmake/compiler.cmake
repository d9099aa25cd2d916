# candela_compiler: an interface target with the warnings, the sanitizers and strict floating point that all own code is built with.
add_library(candela_compiler INTERFACE)
target_compile_options(candela_compiler INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
  $<$<BOOL:${CANDELA_WERROR}>:-Werror> -fno-fast-math -ffp-contract=off)

# The vectors of the kernels where there is nothing better.
string(REGEX MATCH "^(x86_64|AMD64|amd64)$" candela_is_x86_64 "${CMAKE_SYSTEM_PROCESSOR}")
if(CMAKE_OSX_ARCHITECTURES)
  if(CMAKE_OSX_ARCHITECTURES MATCHES "x86_64")
    target_compile_options(candela_compiler INTERFACE "SHELL:-Xarch_x86_64 -msse4.2")
  endif()
elseif(candela_is_x86_64)
  # x86-64-v2: Intel since 2009, AMD since 2011.
  target_compile_options(candela_compiler INTERFACE -msse4.2)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$" AND NOT APPLE AND NOT CMAKE_CXX_FLAGS MATCHES "-m(arch|cpu)=")
  # As Highway's own target for it: functions of other targets are not inlined. The cipher instructions themselves are not used.
  target_compile_options(candela_compiler INTERFACE -march=armv8-a+crypto)
endif()

# g++ 12 warns of overlapping copies inside std::string that cannot happen (GCC bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(candela_compiler INTERFACE -Wno-restrict)
endif()

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
