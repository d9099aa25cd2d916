# Installs the build to a folder of its own and builds examples/ and the README's library program against that, through find_package(candela);
# then runs the program and the installed binary.
# Needs SOURCE and BUILD (the project's folders), SCRATCH (a folder to write to), COMPILER and GENERATOR (CMake's).
file(REMOVE_RECURSE ${SCRATCH})
set(prefix ${SCRATCH}/prefix)
set(examples ${SCRATCH}/examples)
set(run ${SCRATCH}/run)

function(check)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE failed OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(failed)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}: expected to succeed; got ${failed}:\n${output}")
  endif()
endfunction()

check(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
check(${prefix}/bin/candela --version)

# The first C++ block of the README, its statements in a main(). Semicolons would be separators of a list.
file(READ ${SOURCE}/README.md readme)
string(REPLACE ";" "<semicolon>" readme "${readme}")
if(NOT readme MATCHES "```cpp\n(#include[^\n]*)\n(.*)")
  message(FATAL_ERROR "README.md: expected a block of C++ that begins with an include; found none")
endif()
set(include ${CMAKE_MATCH_1})
string(FIND "${CMAKE_MATCH_2}" "```" end)
string(SUBSTRING "${CMAKE_MATCH_2}" 0 ${end} statements)
string(REPLACE "<semicolon>" ";" statements "${statements}")
file(COPY ${SOURCE}/examples/ DESTINATION ${examples})
file(WRITE ${examples}/readme.cpp "${include}\n\nint main() {\n${statements}}\n")

check(${CMAKE_COMMAND} -G ${GENERATOR} -S ${examples} -B ${examples}/build -D CMAKE_PREFIX_PATH=${prefix} -D CMAKE_CXX_COMPILER=${COMPILER}
  -D CMAKE_BUILD_TYPE=Debug)
check(${CMAKE_COMMAND} --build ${examples}/build)

file(MAKE_DIRECTORY ${run})
file(CREATE_LINK ${SOURCE}/models ${run}/models SYMBOLIC)
file(CREATE_LINK ${SOURCE}/data ${run}/data SYMBOLIC)
check(${CMAKE_COMMAND} -E chdir ${run} ${examples}/build/example_readme)
foreach(file out/mine/adapter_model.safetensors out/mine/adapter_config.json out/merged/model.safetensors out/merged/tokenizer.json)
  if(NOT EXISTS ${run}/${file})
    message(FATAL_ERROR "README.md's program: expected it to write ${file}; it did not")
  endif()
endforeach()
file(REMOVE_RECURSE ${SCRATCH})
