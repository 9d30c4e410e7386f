// SPDX-License-Identifier: Apache-2.0
// kernels.lock, and kernelhub.lock beside it: the input is the one, or after a NUL the other.
#include "kernelhub/core/lockfile.h"

#include "oracle.h"

#include <algorithm>

using namespace kernelhub;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::Folder folder;
  const std::string_view text = fuzz::text_of(data, size);
  const std::size_t split = std::min(text.find('\0'), text.size());
  const auto path = folder.write("kernels.lock", text.substr(0, split));
  std::filesystem::remove(folder.path() / "kernelhub.lock");
  if (split < text.size()) folder.write("kernelhub.lock", text.substr(split + 1));
  fuzz::accepts([&] {
    const Lockfile lock = Lockfile::read(path);
    for (const LockedKernel& kernel : lock.kernels()) {
      fuzz::require(CommitHash::is_commit(kernel.commit.str()), "a lock pins a full commit");
      for (const auto& [variant, digest] : kernel.variant_digests) {
        fuzz::require(digest.rfind("sha256:", 0) == 0 && digest.size() == 71, "a digest is whole");
      }
    }
  });
  return 0;
}
