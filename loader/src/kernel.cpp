// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/loader/kernel.h"

#include "function_state.h"
#include "loaded_package.h"
#include "loader_errors.h"

#include "kernelhub/loader/near_names.h"

namespace kernelhub {

Function Kernel::function(std::string_view name) const {
  const Package::State& state = *package_.state_;
  const auto found = state.functions.find(name);
  if (found == state.functions.end()) {
    throw loader_errors::op_not_found(state.info.metadata.id, name,
                                      loader::near_names(name, state.ops), "function");
  }
  return Function(found->second,
                  std::make_shared<Function::State>(Function::State{found->first, package_}));
}

}  // namespace kernelhub
