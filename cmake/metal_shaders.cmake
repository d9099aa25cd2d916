# candela_metal_shaders(<target> <folder>): puts every <folder>/*.metal into <target>: compiled where Apple's `metal` compiler is at hand, as
# source text otherwise, which the device compiles when a family is first used.
add_executable(candela_embed_shaders ${CMAKE_CURRENT_LIST_DIR}/embed_shaders.cpp)
target_compile_features(candela_embed_shaders PRIVATE cxx_std_20)

function(candela_metal_shaders target folder)
  file(GLOB shaders CONFIGURE_DEPENDS ${folder}/*.metal)
  file(GLOB headers CONFIGURE_DEPENDS ${folder}/*.h)
  set(metal_compiler "")
  if(APPLE)
    execute_process(COMMAND xcrun -sdk macosx -f metal OUTPUT_VARIABLE metal_compiler ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  endif()
  if(metal_compiler)
    message(STATUS "Metal shaders: compiled by ${metal_compiler}")
  else()
    message(STATUS "Metal shaders: embedded as source")
  endif()
  set(arguments "")
  set(inputs "")
  foreach(shader IN LISTS shaders)
    get_filename_component(family ${shader} NAME_WE)
    set(input ${shader})
    if(metal_compiler)
      set(input ${CMAKE_CURRENT_BINARY_DIR}/${family}.metallib)
      add_custom_command(
        OUTPUT ${input}
        COMMAND xcrun -sdk macosx metal -std=metal3.0 -mmacosx-version-min=13.0 -O2 -fno-fast-math -Wall -Werror ${shader} -o ${input}
        DEPENDS ${shader} ${headers}
        COMMENT "Compiling ${family}.metal"
        VERBATIM)
    endif()
    list(APPEND inputs ${input})
    list(APPEND arguments ${family}=${input})
  endforeach()
  set(output ${CMAKE_CURRENT_BINARY_DIR}/embedded_shaders.cpp)
  add_custom_command(
    OUTPUT ${output}
    COMMAND candela_embed_shaders ${output} ${arguments}
    DEPENDS candela_embed_shaders ${inputs} ${headers}
    COMMENT "Embedding the Metal shaders"
    VERBATIM)
  target_sources(${target} PRIVATE ${output})
  set_source_files_properties(${output} TARGET_DIRECTORY ${target} PROPERTIES GENERATED TRUE)
  add_custom_target(${target}_embedded_shaders DEPENDS ${output})
  add_dependencies(${target} ${target}_embedded_shaders)
endfunction()
