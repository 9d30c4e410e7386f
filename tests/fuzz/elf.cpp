// SPDX-License-Identifier: Apache-2.0
// The ELF reader. The seeds are the fixture libraries of the build.
#include "oracle.h"

#include "kernelhub/core/unique_fd.h"
#include "kernelhub/loader/preflight.h"

#include <sys/mman.h>

using namespace kernelhub;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const UniqueFd file(memfd_create("elf", MFD_CLOEXEC));
  fuzz::require(::write(file.get(), data, size) == static_cast<ssize_t>(size), "short write");
  fuzz::accepts([&] {
    const loader::PreflightReport report = loader::preflight(file.get(), "fuzzed.so", {});
    for (const loader::Finding& finding : report.findings) {
      fuzz::require(!finding.check.empty() && !finding.message.empty(), "a finding says what");
    }
  });
  return 0;
}
