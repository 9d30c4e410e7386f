// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <sys/syscall.h>
#include <unistd.h>

namespace kernelhub::flash_attention::cpu {

/// Asks Linux to let every thread of this process use AMX tile data: their state is too large to
/// be given to all (Documentation/arch/x86/xstate.rst of the kernel). A permission that there is
/// already, from another library or a parent process, is confirmed. 0, or the errno of the refusal:
/// EINVAL before Linux 5.16, EOPNOTSUPP without tiles, ENOSPC where the alternate signal stack of
/// a thread has no room for them.
inline int request_tiles() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0 ? 0 : errno;
}

}  // namespace kernelhub::flash_attention::cpu
