# candela_objcxx: an interface target with what clang needs to compile and link Objective-C++ against GNUstep's Foundation and
# GCC's Objective-C runtime. The language is enabled here; call from a folder above every .mm file.
if(NOT CMAKE_OBJCXX_COMPILER)
  set(CMAKE_OBJCXX_COMPILER ${CMAKE_CXX_COMPILER})
endif()
set(CMAKE_OBJCXX_FLAGS_RELWITHDEBINFO "${CMAKE_CXX_FLAGS_RELWITHDEBINFO}")
enable_language(OBJCXX)
set(CMAKE_OBJCXX_STANDARD 20)
set(CMAKE_OBJCXX_STANDARD_REQUIRED ON)
set(CMAKE_OBJCXX_EXTENSIONS OFF)
if(CMAKE_CXX_COMPILER_LAUNCHER AND NOT CMAKE_OBJCXX_COMPILER_LAUNCHER)
  set(CMAKE_OBJCXX_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()

if(NOT TARGET candela_objcxx)
  find_program(GNUSTEP_CONFIG gnustep-config)
  find_library(GNUSTEP_BASE_LIBRARY gnustep-base)
  find_library(BLOCKS_LIBRARY BlocksRuntime)
  find_path(BLOCKS_INCLUDE Block.h)
  # The runtime's headers and linker name belong to GCC and lie in its own folder.
  file(GLOB gcc_folders /usr/lib/gcc/*/*)
  list(SORT gcc_folders COMPARE NATURAL ORDER DESCENDING)
  find_path(OBJC_INCLUDE objc/objc.h HINTS ${gcc_folders} PATH_SUFFIXES include)
  find_library(OBJC_LIBRARY objc HINTS ${gcc_folders})
  foreach(found GNUSTEP_CONFIG GNUSTEP_BASE_LIBRARY BLOCKS_LIBRARY BLOCKS_INCLUDE OBJC_INCLUDE OBJC_LIBRARY)
    if(NOT ${found})
      message(FATAL_ERROR "emulator: ${found} was not found. Debian: apt-get install clang gobjc++ libgnustep-base-dev libblocksruntime-dev")
    endif()
  endforeach()
  find_package(Threads REQUIRED)
  execute_process(COMMAND ${GNUSTEP_CONFIG} --variable=GNUSTEP_SYSTEM_HEADERS OUTPUT_VARIABLE gnustep_headers
                  OUTPUT_STRIP_TRAILING_WHITESPACE)

  add_library(candela_objcxx INTERFACE)
  target_include_directories(candela_objcxx SYSTEM INTERFACE
    ${CMAKE_CURRENT_LIST_DIR}/../include ${gnustep_headers} ${BLOCKS_INCLUDE})
  # After all others: GCC's folder also holds its own versions of headers that clang must take from itself (immintrin.h).
  target_compile_options(candela_objcxx INTERFACE "$<$<COMPILE_LANGUAGE:OBJCXX>:SHELL:-idirafter ${OBJC_INCLUDE}>")
  target_compile_definitions(candela_objcxx INTERFACE
    "$<$<COMPILE_LANGUAGE:OBJCXX>:GNUSTEP=1;GNUSTEP_BASE_LIBRARY=1;GNU_RUNTIME=1;_NATIVE_OBJC_EXCEPTIONS=1>")
  target_compile_options(candela_objcxx INTERFACE
    "$<$<COMPILE_LANGUAGE:OBJCXX>:-fobjc-runtime=gcc;-fblocks;-fexceptions;-fobjc-exceptions;-fno-strict-aliasing>"
    "$<$<COMPILE_LANGUAGE:OBJCXX>:-fconstant-string-class=NSConstantString>")
  # The blocks runtime first: GNUstep exports a _Block_copy of its own that leaves blocks on the stack.
  target_link_libraries(candela_objcxx INTERFACE
    ${BLOCKS_LIBRARY} ${GNUSTEP_BASE_LIBRARY} ${OBJC_LIBRARY} Threads::Threads ${CMAKE_DL_LIBS})
endif()
