# SPDX-License-Identifier: Apache-2.0
# Installs the build, then builds SOURCE_DIR with nothing but find_package(kernelhub) and runs the
# programs named by RUN, whose folder is the build's.
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE code)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "failed (${code}): ${ARGV}")
  endif()
endfunction()
file(REMOVE_RECURSE ${WORK_DIR})
run(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${WORK_DIR}/prefix)
run(
  ${CMAKE_COMMAND} -S ${SOURCE_DIR} -B ${WORK_DIR}/build -G Ninja -DCMAKE_PREFIX_PATH=${WORK_DIR}/prefix
  -DKERNELHUB_TORCH_PREFIX=${TORCH_PREFIX} -DWITH_TORCH=${HAS_TORCH}
)
run(${CMAKE_COMMAND} --build ${WORK_DIR}/build)
foreach(command IN LISTS RUN)
  separate_arguments(command)
  run(${WORK_DIR}/build/${command})
endforeach()
