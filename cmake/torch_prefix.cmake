# SPDX-License-Identifier: Apache-2.0
# Imported targets from a torch prefix (the `torch/` folder of an installed wheel), without
# find_package(Torch): that one needs a CUDA toolkit at configure time and links every torch library
# to every target.
#
#   KERNELHUB_TORCH_PREFIX  folder with include/ and lib/; default: what KERNELHUB_PYTHON imports
# Targets: kernelhub_torch_headers (stable and ATen headers), kernelhub_libtorch (libtorch_cpu, libc10)
set(KERNELHUB_TORCH_PREFIX "" CACHE PATH "torch folder of an installed wheel; empty: ask Python")
set(KERNELHUB_HAS_TORCH OFF)
if(NOT KERNELHUB_TORCH_PREFIX AND KERNELHUB_PYTHON)
  execute_process(
    COMMAND
      ${KERNELHUB_PYTHON} -c
      "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
    OUTPUT_VARIABLE torch_prefix
    OUTPUT_STRIP_TRAILING_WHITESPACE
  )
  # Not cached: another Python may have another torch.
  set(KERNELHUB_TORCH_PREFIX "${torch_prefix}")
endif()
if(KERNELHUB_TORCH_PREFIX AND EXISTS "${KERNELHUB_TORCH_PREFIX}/lib/libtorch_cpu.so")
  set(KERNELHUB_HAS_TORCH ON)
  add_library(kernelhub_libtorch INTERFACE)
  target_include_directories(
    kernelhub_libtorch
    SYSTEM
    INTERFACE
      ${KERNELHUB_TORCH_PREFIX}/include
      ${KERNELHUB_TORCH_PREFIX}/include/torch/csrc/api/include
  )
  # torch's include folder has another fmt whose compiled part is not exported; beside it ours is
  # used header-only.
  target_compile_definitions(kernelhub_libtorch INTERFACE FMT_HEADER_ONLY=1)
  target_link_libraries(
    kernelhub_libtorch
    INTERFACE ${KERNELHUB_TORCH_PREFIX}/lib/libtorch_cpu.so ${KERNELHUB_TORCH_PREFIX}/lib/libc10.so
  )
  target_link_options(
    kernelhub_libtorch
    INTERFACE -Wl,-rpath-link,${KERNELHUB_TORCH_PREFIX}/lib,--allow-shlib-undefined
  )
endif()
