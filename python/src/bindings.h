// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

/// One function per bind_*.cpp; module.cpp calls them so that every type is known before a
/// signature names it.
namespace kernelhub::python {

void bind_errors();
void bind_core(pybind11::module_& module);
void bind_trust(pybind11::module_& module);
void bind_runtime(pybind11::module_& module);

}  // namespace kernelhub::python
