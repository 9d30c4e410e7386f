// SPDX-License-Identifier: Apache-2.0
// A C++17 program without torch: reaches the facade and gets the specified errors.
#include <cstdio>
#include <kernelhub/kernelhub.h>

int main() {
  const auto missing = kernelhub::try_get_local_kernel("/nonexistent/kernel");
  if (missing || missing.error().code() != kernelhub::ErrorCode::kNoCompatibleVariant) return 1;
  kernelhub::KernelSpec neither;
  const auto invalid = kernelhub::try_get_kernel("org/name", neither);
  if (invalid || invalid.error().code() != kernelhub::ErrorCode::kInvalidArgument) return 2;
  std::printf("%s\n%s\n", missing.error().what(), invalid.error().what());
  return kernelhub::system().torch ? 3 : 0;
}
