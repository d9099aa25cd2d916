# install(): the library, its headers, the binary, and a package for find_package(candela).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS candela candela_compiler EXPORT candela-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/candela DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(TARGET candela_cli)
  install(TARGETS candela_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(EXPORT candela-targets NAMESPACE candela:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/candela)
# Where the compiler has no OpenMP, and under the thread sanitizer, the library does without: a program that links it must, too.
get_target_property(candela_libraries candela LINK_LIBRARIES)
if("OpenMP::OpenMP_CXX" IN_LIST candela_libraries)
  set(candela_USES_OPENMP ON)
else()
  set(candela_USES_OPENMP OFF)
endif()
configure_package_config_file(cmake/candela-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/candela-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/candela)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/candela-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/candela-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/candela-config-version.cmake cmake/openmp_root.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/candela)
