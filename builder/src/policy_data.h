// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The files of builder/data as text, embedded by CMake.
namespace kernelhub::builder::policy_data {

extern const char* const kManylinux;
extern const char* const kPythonAbi;
extern const char* const kTorchShim;

}  // namespace kernelhub::builder::policy_data
