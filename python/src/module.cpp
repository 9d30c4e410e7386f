// SPDX-License-Identifier: Apache-2.0
#include "bindings.h"

PYBIND11_MODULE(_kernelhub, module) {
  module.doc() = "Bindings of the torch-free C++ library; use the package kernelhub instead.";
  module.attr("__version__") = KERNELHUB_VERSION;
  kernelhub::python::bind_errors();
  kernelhub::python::bind_core(module);
  kernelhub::python::bind_trust(module);
  kernelhub::python::bind_runtime(module);
}
