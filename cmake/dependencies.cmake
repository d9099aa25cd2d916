# Every dependency comes from the platform's package manager; scripts/setup.sh installs them.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 REQUIRED)
find_package(yaml-cpp REQUIRED)
if(NOT TARGET yaml-cpp::yaml-cpp)
  # Before 0.8 the package has the target without its namespace.
  add_library(yaml-cpp::yaml-cpp ALIAS yaml-cpp)
endif()
find_package(hwy REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc)
# Optional: `candela chat` edits its lines with it.
pkg_check_modules(libedit libedit)
# Optional: compressed data is read with it. Homebrew keeps it apart from what macOS has without its headers.
if(APPLE)
  list(APPEND CMAKE_PREFIX_PATH /opt/homebrew/opt/libarchive /usr/local/opt/libarchive)
endif()
pkg_check_modules(libarchive IMPORTED_TARGET libarchive)
# Optional: `candela pull` fetches with it. On macOS it comes with the SDK.
find_package(CURL QUIET)
if(NOT APPLE)
  find_package(dnnl REQUIRED)
endif()
if(CANDELA_TESTS)
  find_package(GTest REQUIRED)
  # For a test of programs that have parallel regions of their own.
  find_package(OpenMP QUIET COMPONENTS CXX)
  # Not every package manager has it (Homebrew, Fedora): tests/support/property.h draws by itself where it is absent.
  find_package(rapidcheck QUIET)
  if(rapidcheck_FOUND)
    target_compile_definitions(rapidcheck INTERFACE CANDELA_RAPIDCHECK)
  endif()
endif()
