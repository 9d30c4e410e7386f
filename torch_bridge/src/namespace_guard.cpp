// SPDX-License-Identifier: Apache-2.0
#include "namespace_guard.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <sstream>

namespace kernelhub::loader {

bool is_namespace_free(const std::string& op_namespace) {
  // Fragments own no namespace, but their ops would collide all the same.
  if (!ops_in_namespace(op_namespace).empty()) return false;
  try {
    const c10::RegistrationHandleRAII owned_for_a_moment =
        c10::Dispatcher::singleton().registerLibrary(op_namespace, "kernelhub");
    return true;
  } catch (const c10::Error&) {
    return false;  // the dispatcher's way to say that somebody owns it
  }
}

std::vector<OpInfo> ops_in_namespace(const std::string& op_namespace) {
  std::vector<OpInfo> ops;
  c10::Dispatcher& dispatcher = c10::Dispatcher::singleton();
  const std::string prefix = op_namespace + "::";
  for (const c10::OperatorName& name : dispatcher.getAllOpNames()) {
    if (name.name.compare(0, prefix.size(), prefix) != 0) continue;
    if (const auto handle = dispatcher.findSchema(name)) ops.push_back(op_info(*handle));
  }
  return ops;
}

OpInfo op_info(const c10::OperatorHandle& handle) {
  const c10::OperatorName& name = handle.operator_name();
  std::ostringstream schema;
  schema << handle.schema();
  return {name.name.substr(name.name.find("::") + 2), name.overload_name, schema.str()};
}

}  // namespace kernelhub::loader
