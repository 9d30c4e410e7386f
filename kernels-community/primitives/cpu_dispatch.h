// SPDX-License-Identifier: Apache-2.0
// Which instruction set the CPU kernels of a package use. One translation unit per level is
// compiled with its own flags; this header picks among them at run time.
#pragma once

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace kernelhub::primitives {

enum class CpuIsa { kScalar, kAvx2, kAvx512 };

/// True where the CPU and the operating system support every instruction that the level's flags
/// allow (`-march=haswell -maes -mpclmul`, `-march=skylake-avx512`).
inline bool cpu_supports(CpuIsa isa) {
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                        __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
                        __builtin_cpu_supports("f16c") && __builtin_cpu_supports("aes") &&
                        __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("popcnt") &&
                        __builtin_cpu_supports("lzcnt") && __builtin_cpu_supports("movbe");
  if (isa == CpuIsa::kScalar) return true;
  if (isa == CpuIsa::kAvx2) return has_avx2;
  return has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}

/// True where eight or sixteen gathered values cost less than as many loads. So it is on Intel's
/// CPUs since those with AVX-VNNI. Microcode that stops the leak of stale gathered data slows the
/// gathers of most older ones, and that cannot be seen from a process.
inline bool has_fast_gathers() {
  __builtin_cpu_init();
  return __builtin_cpu_is("intel") && __builtin_cpu_supports("avxvnni");
}

/// The level named by `KERNELHUB_CPU_ISA` (scalar, avx2 or avx512), else the best supported one.
/// Throws std::runtime_error when the variable names an unknown level or one this CPU lacks.
inline CpuIsa select_cpu_isa(const char* package) {
  const char* asked = std::getenv("KERNELHUB_CPU_ISA");
  const std::string name = asked == nullptr ? "" : asked;
  if (name.empty()) {
    if (cpu_supports(CpuIsa::kAvx512)) return CpuIsa::kAvx512;
    return cpu_supports(CpuIsa::kAvx2) ? CpuIsa::kAvx2 : CpuIsa::kScalar;
  }
  if (name == "scalar") return CpuIsa::kScalar;
  if (name == "avx2" && cpu_supports(CpuIsa::kAvx2)) return CpuIsa::kAvx2;
  if (name == "avx512" && cpu_supports(CpuIsa::kAvx512)) return CpuIsa::kAvx512;
  throw std::runtime_error(std::string(package) +
                           ": KERNELHUB_CPU_ISA names no level of this CPU: expected scalar" +
                           (cpu_supports(CpuIsa::kAvx2) ? ", avx2" : "") +
                           (cpu_supports(CpuIsa::kAvx512) ? ", avx512" : "") + ", got " + name);
}

}  // namespace kernelhub::primitives
