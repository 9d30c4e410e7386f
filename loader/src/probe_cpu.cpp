// SPDX-License-Identifier: Apache-2.0
#include "probe.h"

#include <sys/utsname.h>

namespace kernelhub::loader {

#if defined(__x86_64__) && defined(__clang__) && __clang_major__ < 17
// It does not know the names of the levels. What it cannot ask for either (f16c, lzcnt, movbe)
// came with the processors that brought the others.
int x86_level() noexcept {
  __builtin_cpu_init();
  const bool v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
  const bool v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                  __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  return 1 + v2 + v3 + v4;
}
#elif defined(__x86_64__)
int x86_level() noexcept {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) return 4;
  if (__builtin_cpu_supports("x86-64-v3")) return 3;
  if (__builtin_cpu_supports("x86-64-v2")) return 2;
  return 1;
}
#else
int x86_level() noexcept { return 0; }
#endif

std::string cpu_name() {
  utsname names{};
  uname(&names);
  return names.machine;
}

}  // namespace kernelhub::loader
