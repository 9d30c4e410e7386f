// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/loader/package.h"

#include <string>
#include <vector>

namespace c10 {
class OperatorHandle;
}

namespace kernelhub::loader {

/// No library owns the namespace and no op lives in it. A second owner would end the process from
/// inside a static initialiser (loader spec 7).
bool is_namespace_free(const std::string& op_namespace);
/// Ops of a namespace, in order of registration.
std::vector<OpInfo> ops_in_namespace(const std::string& op_namespace);
OpInfo op_info(const c10::OperatorHandle& handle);

}  // namespace kernelhub::loader
