// SPDX-License-Identifier: Apache-2.0
// Which instruction set the CPU kernels of a package use. One translation unit per level is
// compiled with its own flags; this header picks among them at run time.
#pragma once

#include <cpuid.h>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

namespace kernelhub::primitives {

/// Levels that every package has code for. Flags of their units: none; `-march=haswell -maes
/// -mpclmul`; `-march=skylake-avx512`.
enum class CpuIsa { kScalar, kAvx2, kAvx512 };

/// All levels, each with what is below it. The last two add `-mavx512bf16`, and `-mamx-tile
/// -mamx-bf16` to that.
enum class CpuLevel { kScalar, kAvx2, kAvx512, kAvx512Bf16, kAmx };

/// What levels ask of the CPU and the operating system.
struct CpuFacts {
  bool has_avx2;
  bool has_avx512;
  bool has_avx512_bf16;
  /// VDPBF16PS runs as often as a fused multiply-add of fp32. So it does on AMD's CPUs; Sapphire
  /// Rapids runs it at a quarter of that (measured), so that fp32 is faster there.
  bool has_fast_avx512_bf16;
  bool has_amx;            // CPUID: amx-tile and amx-bf16
  bool os_switches_tiles;  // XCR0 holds both parts of the tile state
  /// Asks the operating system to let this process use tiles: 0, or the errno of the refusal. Null
  /// for kernels that use none.
  int (*request_tiles)();
};

inline CpuFacts cpu_facts(int (*request_tiles)()) {
  __builtin_cpu_init();
  CpuFacts facts{};
  facts.has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                   __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
                   __builtin_cpu_supports("f16c") && __builtin_cpu_supports("aes") &&
                   __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("popcnt") &&
                   __builtin_cpu_supports("lzcnt") && __builtin_cpu_supports("movbe");
  facts.has_avx512 = facts.has_avx2 && __builtin_cpu_supports("avx512f") &&
                     __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
                     __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  facts.has_avx512_bf16 = facts.has_avx512 && __builtin_cpu_supports("avx512bf16");
  facts.has_fast_avx512_bf16 = facts.has_avx512_bf16 && __builtin_cpu_is("amd");
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  facts.has_amx = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kAmxBf16) && (d & kAmxTile);
  constexpr unsigned kOsXsave = 1u << 27, kTileState = 3u << 17;
  if (__get_cpuid(1, &a, &b, &c, &d) != 0 && (c & kOsXsave)) {
    unsigned low = 0, high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    facts.os_switches_tiles = (low & kTileState) == kTileState;
  }
  facts.request_tiles = request_tiles;
  return facts;
}

/// Why kernels cannot use tiles; empty where they can. Requests them as the last step.
inline std::string why_no_amx(const CpuFacts& facts) {
  if (!facts.has_amx) return "the CPU has no amx-tile and amx-bf16";
  if (!facts.has_avx512_bf16) return "the CPU has no avx512_bf16";
  if (!facts.os_switches_tiles) return "the operating system does not enable tile state in XCR0";
  const int refusal = facts.request_tiles == nullptr ? 0 : facts.request_tiles();
  if (refusal == 0) return {};
  return std::string("the operating system refuses tile data: ") + std::strerror(refusal);
}

/// The level named by `asked` (null or empty: the best one). Throws std::runtime_error when it
/// names an unknown level or one that these facts lack.
inline CpuLevel choose_cpu_level(const char* package, const CpuFacts& facts, const char* asked) {
  const std::string name = asked == nullptr ? "" : asked;
  if (name.empty()) {
    if (why_no_amx(facts).empty()) return CpuLevel::kAmx;
    if (facts.has_fast_avx512_bf16) return CpuLevel::kAvx512Bf16;
    if (facts.has_avx512) return CpuLevel::kAvx512;
    return facts.has_avx2 ? CpuLevel::kAvx2 : CpuLevel::kScalar;
  }
  if (name == "scalar") return CpuLevel::kScalar;
  if (name == "avx2" && facts.has_avx2) return CpuLevel::kAvx2;
  if (name == "avx512" && facts.has_avx512) return CpuLevel::kAvx512;
  if (name == "avx512_bf16" && facts.has_avx512_bf16) return CpuLevel::kAvx512Bf16;
  const std::string no_amx = why_no_amx(facts);
  if (name == "amx" && no_amx.empty()) return CpuLevel::kAmx;
  throw std::runtime_error(
      std::string(package) + ": KERNELHUB_CPU_ISA names no level of this CPU: expected scalar" +
      (facts.has_avx2 ? ", avx2" : "") + (facts.has_avx512 ? ", avx512" : "") +
      (facts.has_avx512_bf16 ? ", avx512_bf16" : "") + (no_amx.empty() ? ", amx" : "") + ", got " +
      name + (name == "amx" ? " (" + no_amx + ")" : ""));
}

/// True where eight or sixteen gathered values cost less than as many loads. So it is on Intel's
/// CPUs since those with AVX-VNNI. Microcode that stops the leak of stale gathered data slows the
/// gathers of most older ones, and that cannot be seen from a process.
inline bool has_fast_gathers() {
  __builtin_cpu_init();
  return __builtin_cpu_is("intel") && __builtin_cpu_supports("avxvnni");
}

/// The level that `KERNELHUB_CPU_ISA` (scalar, avx2, avx512, avx512_bf16 or amx) names, else the
/// best one. `request_tiles` as in CpuFacts. Throws what choose_cpu_level does.
inline CpuLevel select_cpu_level(const char* package, int (*request_tiles)()) {
  return choose_cpu_level(package, cpu_facts(request_tiles), std::getenv("KERNELHUB_CPU_ISA"));
}

/// The same for packages without code for the last levels: there it is that of AVX-512.
inline CpuIsa select_cpu_isa(const char* package) {
  switch (select_cpu_level(package, nullptr)) {
    case CpuLevel::kScalar:
      return CpuIsa::kScalar;
    case CpuLevel::kAvx2:
      return CpuIsa::kAvx2;
    default:
      return CpuIsa::kAvx512;
  }
}

}  // namespace kernelhub::primitives
