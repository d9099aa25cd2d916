# install(): the library, its headers, the binary, and a package for find_package(candela).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS candela candela_compiler EXPORT candela-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/candela DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(TARGET candela_cli)
  install(TARGETS candela_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(EXPORT candela-targets NAMESPACE candela:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/candela)
configure_package_config_file(cmake/candela-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/candela-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/candela)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/candela-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/candela-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/candela-config-version.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/candela)
