# On macOS find_package(OpenMP) does not look where Homebrew puts libomp; OpenMP_ROOT makes it. Read by the build and by the installed package.
if(APPLE AND NOT OpenMP_ROOT AND NOT DEFINED ENV{OpenMP_ROOT})
  execute_process(COMMAND brew --prefix libomp OUTPUT_VARIABLE candela_libomp OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(IS_DIRECTORY "${candela_libomp}")
    set(OpenMP_ROOT ${candela_libomp})
  endif()
endif()
