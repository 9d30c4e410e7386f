// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

/// Texts that the builder writes into a build or a package.
namespace kernelhub::builder {

/// Part of every source hash: raise it with any change of these texts or of the builder's flags.
inline constexpr int kTemplatesVersion = 1;

/// registration.h: the macros of package spec 1.2.
std::string_view registration_header() noexcept;
/// Linker version script: only what a loader looks up is exported.
std::string_view export_script() noexcept;
/// C header that binds libm and libdl functions to their oldest glibc version (x86_64).
std::string_view glibc_versions_header() noexcept;
/// Private definitions of the symbols that a recent g++ takes from a newer C or C++ library.
std::string_view single_threaded_shim() noexcept;
std::string_view bad_array_shim() noexcept;
std::string_view string_stream_shim() noexcept;

/// _ops.py of a torch package with a compiled extension named `id`.
std::string torch_ops_module(std::string_view id);
/// _ops.py of a pure-Python torch package; the id follows the torch that runs.
std::string noarch_ops_module(std::string_view python_name, std::string_view uid);
/// _ops.py of a tvm-ffi package whose library is `<id>.so`.
std::string tvm_ffi_ops_module(std::string_view id);
/// __init__.py of a tvm-ffi package whose project has no Python of its own.
std::string_view tvm_ffi_init_module() noexcept;

}  // namespace kernelhub::builder
