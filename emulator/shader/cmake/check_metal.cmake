# cmake -DSOURCE=file.metal -DTRANSLATE=translate_metal -DCLANG=clang++ -DROOT=emulator/shader -DWORK=folder
#       -DPREPROCESS=options -DDIALECT=options [-DOPENCL_ONLY=ON] -P check_metal.cmake
# What becomes of a shader on its way: it is preprocessed, translated, compiled as the C++ that runs on the CPU (not with
# OPENCL_ONLY), and compiled as C++ for OpenCL, whose compiler checks address spaces. All must succeed; or, if the first
# line of the source is `// refused: TEXT`, one must fail and say TEXT.
file(MAKE_DIRECTORY ${WORK})
get_filename_component(name ${SOURCE} NAME_WE)
set(base ${WORK}/${name})
file(STRINGS ${SOURCE} first LIMIT_COUNT 1)
set(refusal "")
if(first MATCHES "^// refused: (.*)$")
  set(refusal "${CMAKE_MATCH_1}")
endif()

set(said "")
set(failed OFF)
macro(stage)
  if(NOT failed)
    execute_process(COMMAND ${ARGN} RESULT_VARIABLE result ERROR_VARIABLE said OUTPUT_VARIABLE ignored)
    if(NOT result EQUAL 0)
      set(failed ON)
    endif()
  endif()
endmacro()

stage(${CLANG} ${PREPROCESS} ${SOURCE} -o ${base}.ii)
if(NOT OPENCL_ONLY)
  stage(${TRANSLATE} --preprocessed ${base}.ii --source ${SOURCE} --name ${name}.metal --output ${base}.cpp)
  stage(${CLANG} -std=c++20 -fsyntax-only -isystem ${ROOT} ${DIALECT} ${base}.cpp)
endif()
stage(${TRANSLATE} --opencl ${base}.ii --output ${base}.clcpp)
stage(${CLANG} -x cl -cl-std=clc++2021 -target spir64 -Xclang -cl-ext=+cl_khr_fp16 -cl-no-stdinc -cl-single-precision-constant
      -Xclang -fno-builtin -fsyntax-only -Wall -Wextra -Wshadow -Werror -Wno-unused-function -I ${ROOT} ${base}.clcpp)

if(refusal STREQUAL "")
  if(failed)
    message(FATAL_ERROR "${SOURCE} is not accepted:\n${said}")
  endif()
elseif(NOT failed)
  message(FATAL_ERROR "${SOURCE} is accepted; expected: ${refusal}")
else()
  string(FIND "${said}" "${refusal}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "${SOURCE} is refused, but not for: ${refusal}\n${said}")
  endif()
endif()
