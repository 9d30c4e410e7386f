// SPDX-License-Identifier: Apache-2.0
#include "empty_library.h"

#include "sealed_file.h"

// The build links the library and names it in KERNELHUB_EMPTY_TORCH_PYTHON.
__asm__(
    ".section .rodata\n"
    ".hidden kernelhub_empty_torch_python\n"
    ".hidden kernelhub_empty_torch_python_end\n"
    ".globl kernelhub_empty_torch_python\n"
    ".globl kernelhub_empty_torch_python_end\n"
    "kernelhub_empty_torch_python:\n"
    ".incbin \"" KERNELHUB_EMPTY_TORCH_PYTHON
    "\"\n"
    "kernelhub_empty_torch_python_end:\n"
    ".previous\n");

extern "C" {
extern const char kernelhub_empty_torch_python[];
extern const char kernelhub_empty_torch_python_end[];
}

namespace kernelhub::loader {

UniqueFd empty_torch_python() {
  SealedFile file("libtorch_python.so");
  file.write(
      {kernelhub_empty_torch_python,
       static_cast<std::size_t>(kernelhub_empty_torch_python_end - kernelhub_empty_torch_python)});
  return file.seal();
}

}  // namespace kernelhub::loader
