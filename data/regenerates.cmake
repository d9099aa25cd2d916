# Makes the data set again with the committed seed and compares every byte.
# Needs GENERATOR (the program), COMMITTED (the folder in the repository) and SCRATCH (a folder to write to).
file(REMOVE_RECURSE ${SCRATCH})
execute_process(COMMAND ${GENERATOR} --out ${SCRATCH} --seed 1 COMMAND_ERROR_IS_FATAL ANY)
foreach(name train valid test)
  execute_process(COMMAND ${CMAKE_COMMAND} -E compare_files ${COMMITTED}/${name}.jsonl ${SCRATCH}/${name}.jsonl
                  RESULT_VARIABLE differs)
  if(differs)
    message(FATAL_ERROR "${name}.jsonl: expected the bytes that make_text_to_sql --seed 1 writes; got others. "
                        "If the generator was changed on purpose, run it with --out data/text-to-sql and commit both.")
  endif()
endforeach()
