# SPDX-License-Identifier: Apache-2.0
# KERNELHUB_SANITIZE = "address,undefined" or "thread": the whole build is instrumented.
set(KERNELHUB_SANITIZE "" CACHE STRING "value of -fsanitize= for every target")
if(KERNELHUB_SANITIZE)
  add_compile_options(
    -fsanitize=${KERNELHUB_SANITIZE}
    -fno-sanitize-recover=all
    -fno-omit-frame-pointer
    -g1
    -O1
  )
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Its flow analysis takes the instrumentation of fmt's arguments for uses of unset variables.
    add_compile_options(-Wno-maybe-uninitialized -Wno-uninitialized)
  endif()
  add_link_options(-fsanitize=${KERNELHUB_SANITIZE})
endif()
