// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/loader/preflight.h"

#include <algorithm>
#include <array>
#include <fnmatch.h>
#include <string>

namespace kernelhub::loader {
namespace {

constexpr std::array kAllowedDependencies = {
    // torch and the tvm-ffi runtime
    "libtorch.so", "libtorch_cpu.so", "libtorch_cuda.so", "libtorch_cuda_*.so", "libtorch_hip.so",
    "libtorch_xpu.so", "libtorch_global_deps.so", "libtorch_nvshmem.so", "libc10.so",
    "libc10_cuda.so", "libc10_hip.so", "libc10_xpu.so", "libtvm_ffi.so",
    // CUDA
    "libcuda.so.1", "libcudart.so.*", "libcublas.so.*", "libcublasLt.so.*", "libcudnn*.so.*",
    "libcufft.so.*", "libcufftw.so.*", "libcufile.so.*", "libcurand.so.*", "libcusolver.so.*",
    "libcusolverMg.so.*", "libcusparse.so.*", "libcusparseLt.so.*", "libcupti.so.*", "libnccl.so.*",
    "libnvJitLink.so.*", "libnvrtc.so.*", "libnvrtc-builtins.so.*", "libnvshmem_host.so.*",
    "libnvToolsExt.so.*",
    // ROCm
    "libamdhip64.so.*", "libhipblas.so.*", "libhipblaslt.so.*", "libhipfft.so.*", "libhiprand.so.*",
    "libhiprtc.so.*", "libhipsolver.so.*", "libhipsparse.so.*", "libhipsparselt.so.*",
    "libhsa-runtime64.so.*", "libMIOpen.so.*", "librccl.so.*", "librocblas.so.*", "librocfft.so.*",
    "librocrand.so.*", "librocsolver.so.*", "librocsparse.so.*", "libroctx64.so.*",
    // C and C++ run time
    "libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0", "libstdc++.so.6",
    "libgcc_s.so.1", "libgomp.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"};

struct ShimSymbol {
  std::string_view name;
  MajorMinor since;
};

// Guards of torch/csrc/stable/c/shim.h in torch 2.11.0, sorted by name within a version.
constexpr std::array<ShimSymbol, 28> kShimSymbols = {{
    {"torch_c10_cuda_check_msg", {2, 10}},
    {"torch_c10_cuda_free_error_msg", {2, 10}},
    {"torch_call_dispatcher", {2, 10}},
    {"torch_cuda_stream_synchronize", {2, 10}},
    {"torch_delete_list", {2, 10}},
    {"torch_delete_string", {2, 10}},
    {"torch_get_const_data_ptr", {2, 10}},
    {"torch_get_cuda_stream_from_pool", {2, 10}},
    {"torch_get_current_cuda_blas_handle", {2, 10}},
    {"torch_get_mutable_data_ptr", {2, 10}},
    {"torch_get_num_threads", {2, 10}},
    {"torch_get_thread_idx", {2, 10}},
    {"torch_library_impl", {2, 10}},
    {"torch_list_get_item", {2, 10}},
    {"torch_list_push_back", {2, 10}},
    {"torch_list_set_item", {2, 10}},
    {"torch_list_size", {2, 10}},
    {"torch_new_list_reserve_size", {2, 10}},
    {"torch_new_string_handle", {2, 10}},
    {"torch_parallel_for", {2, 10}},
    {"torch_parse_device_string", {2, 10}},
    {"torch_set_current_cuda_stream", {2, 10}},
    {"torch_set_requires_grad", {2, 10}},
    {"torch_string_c_str", {2, 10}},
    {"torch_string_length", {2, 10}},
    {"torch_dtype_float4_e2m1fn_x2", {2, 11}},
    {"torch_dtype_float8_e8m0fnu", {2, 11}},
    {"torch_from_blob", {2, 11}},
}};

}  // namespace

bool is_allowed_dependency(std::string_view soname) {
  const std::string name(soname);
  return std::any_of(kAllowedDependencies.begin(), kAllowedDependencies.end(),
                     [&](const char* pattern) { return fnmatch(pattern, name.c_str(), 0) == 0; });
}

std::optional<MajorMinor> shim_introduced_in(std::string_view symbol) {
  const auto* found = std::find_if(kShimSymbols.begin(), kShimSymbols.end(),
                                   [&](const ShimSymbol& entry) { return entry.name == symbol; });
  if (found == kShimSymbols.end()) return std::nullopt;
  return found->since;
}

}  // namespace kernelhub::loader
