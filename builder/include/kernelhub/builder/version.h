// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace kernelhub::builder {

/// Version of this builder, as metadata.json and `--version` show it.
inline constexpr const char* kBuilderVersion = KERNELHUB_VERSION;

}  // namespace kernelhub::builder
