# candela_metal_shaders(<target> <folder>): puts every <folder>/*.metal into <target>: compiled where Apple's `metal` compiler is at hand, as
# source text otherwise, which the device compiles when a family is first used.
add_executable(candela_embed_shaders ${CMAKE_CURRENT_LIST_DIR}/embed_shaders.cpp)
target_compile_features(candela_embed_shaders PRIVATE cxx_std_20)

function(candela_metal_shaders target folder)
  file(GLOB shaders CONFIGURE_DEPENDS ${folder}/*.metal)
  file(GLOB headers CONFIGURE_DEPENDS ${folder}/*.h)
  set(metal_compiler "")
  if(APPLE AND NOT CANDELA_EMULATED_METAL)
    # xcrun finds a `metal` that only tells that its toolchain is not installed: it must be run.
    execute_process(COMMAND xcrun -sdk macosx metal --version RESULT_VARIABLE failed OUTPUT_VARIABLE version ERROR_VARIABLE said)
    if(failed AND CANDELA_STRICT_SHADERS)
      message(FATAL_ERROR "CANDELA_STRICT_SHADERS asks for compiled shaders, and `xcrun -sdk macosx metal` does not run: ${said}")
    elseif(failed)
      message(STATUS "Metal shaders: embedded as source, since `xcrun -sdk macosx metal` does not run: ${said}")
    else()
      string(REGEX MATCH "^[^\n]*" metal_compiler "${version}")
      message(STATUS "Metal shaders: compiled by ${metal_compiler}")
    endif()
  else()
    message(STATUS "Metal shaders: embedded as source")
  endif()
  set(strict "")
  if(CANDELA_STRICT_SHADERS)
    set(strict -Werror)
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
        COMMAND xcrun -sdk macosx metal -std=metal3.0 -mmacosx-version-min=${CMAKE_OSX_DEPLOYMENT_TARGET} -O2 -fno-fast-math -ffp-contract=off -Wall ${strict}
                ${shader} -o ${input}
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
