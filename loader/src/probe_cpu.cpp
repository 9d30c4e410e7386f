// SPDX-License-Identifier: Apache-2.0
#include "probe.h"

#include <sys/utsname.h>

namespace kernelhub::loader {

#if defined(__x86_64__)
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
