// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/unique_fd.h"

namespace kernelhub::loader {

/// A library without content whose SONAME is libtorch_python.so, as a memory file: it satisfies a
/// DT_NEEDED of which no symbol is used. Throws kDlopenFailed.
UniqueFd empty_torch_python();

}  // namespace kernelhub::loader
