# candela_translate_metal(<target> <file.metal>... [INCLUDES <dir>...])
# Translates the shaders and adds their object code to what links <target>, and the run time of the stand-in. A kernel's
# source is known by the file's path relative to the current source folder.
cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH shader_folder)
set(EMULATOR_SHADER_DIR ${shader_folder} CACHE INTERNAL "")

# Metal 3.0, as cmake/metal_shaders.cmake compiles it on a Mac.
set(EMULATOR_SHADER_PREPROCESS -E -x c++ -std=c++14 -undef -nostdinc -D__METAL_VERSION__=300 -D__METAL__=1
  -I ${EMULATOR_SHADER_DIR}/stubs CACHE INTERNAL "")
# It is based on C++14: clang tells of what came later although the translation around it is C++20.
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  set(dialect -Wno-everything -Werror=vla -Werror=vla-extension -Werror=pre-c++17-compat -Werror=pre-c++20-compat)
else()
  set(dialect -w)
endif()
set(EMULATOR_SHADER_DIALECT ${dialect} CACHE INTERNAL "")

function(candela_translate_metal target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "INCLUDES")
  set(include_options "")
  set(flatten_options "")
  foreach(folder IN LISTS arg_INCLUDES)
    list(APPEND include_options -I ${folder})
    list(APPEND flatten_options --include ${folder})
  endforeach()
  set(generated "")
  foreach(file IN LISTS arg_UNPARSED_ARGUMENTS)
    cmake_path(ABSOLUTE_PATH file BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} NORMALIZE OUTPUT_VARIABLE source)
    cmake_path(RELATIVE_PATH source BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} OUTPUT_VARIABLE name)
    string(REPLACE "../" "" output_name ${name})
    set(output ${CMAKE_CURRENT_BINARY_DIR}/${target}_metal/${output_name})
    cmake_path(GET output PARENT_PATH folder)
    file(MAKE_DIRECTORY ${folder})
    add_custom_command(
      OUTPUT ${output}.cpp
      COMMAND ${CMAKE_CXX_COMPILER} ${EMULATOR_SHADER_PREPROCESS} ${include_options}
              -MD -MF ${output}.d -MT ${output}.cpp ${source} -o ${output}.ii
      COMMAND translate_metal --preprocessed ${output}.ii --source ${source} --name ${name} --output ${output}.cpp ${flatten_options}
      DEPENDS ${source} translate_metal
      DEPFILE ${output}.d
      COMMENT "Translating ${name}"
      VERBATIM)
    list(APPEND generated ${output}.cpp)
  endforeach()
  set(objects ${target}_metal)
  add_library(${objects} OBJECT ${generated})
  set_target_properties(${objects} PROPERTIES CXX_STANDARD 20 CXX_EXTENSIONS OFF CXX_CLANG_TIDY "")
  # As a system folder: the rules for the language of shaders are not for what stands for the language's library.
  target_include_directories(${objects} SYSTEM PRIVATE ${EMULATOR_SHADER_DIR})
  target_link_libraries(${objects} PRIVATE emulator_shader)
  # No fused multiply-add that the source does not ask for; memory that a thread never wrote reads as a pattern.
  target_compile_options(${objects} PRIVATE -O2 -ffp-contract=off -fno-fast-math -fno-math-errno -fno-trapping-math
    -ftrivial-auto-var-init=pattern ${EMULATOR_SHADER_DIALECT} ${EMULATOR_ARCH})
  if(CMAKE_CXX_COMPILER_ID MATCHES "Clang" AND NOT CANDELA_SANITIZE AND NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize")
    target_compile_options(${objects} PRIVATE
      -fsanitize=array-bounds -fsanitize-minimal-runtime -fno-sanitize-recover=array-bounds)
  endif()
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "STATIC_LIBRARY" OR type STREQUAL "INTERFACE_LIBRARY")
    # As objects and not through an archive, from which the linker would take only what is named somewhere.
    target_link_libraries(${target} INTERFACE $<TARGET_OBJECTS:${objects}> emulator_shader)
    if(type STREQUAL "STATIC_LIBRARY")
      add_dependencies(${target} ${objects})
    endif()
  else()
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${objects}>)
    target_link_libraries(${target} PRIVATE emulator_shader)
  endif()
endfunction()
