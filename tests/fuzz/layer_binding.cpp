// SPDX-License-Identifier: Apache-2.0
// kernelhub.layers of metadata.json: what is accepted refers to results that its calls have.
#include "kernelhub/layers/layer_binding.h"

#include "oracle.h"

#include <algorithm>

using namespace kernelhub;

namespace {

std::int64_t outputs_of(const std::vector<BindingArgument>& args) {
  return std::count_if(args.begin(), args.end(), [](const BindingArgument& argument) {
    return std::holds_alternative<OutputArgument>(argument);
  });
}

void require_result(const BindingResult& result, const std::vector<BindingArgument>& args) {
  fuzz::require(result.index >= 0, "the index of a result is not negative");
  fuzz::require(!result.is_out || result.index < outputs_of(args), "a result is an out argument");
}

void require_call(const BindingCall& call) {
  fuzz::require(!call.results.empty(), "a call has a result");
  for (const BindingResult& result : call.results) require_result(result, call.args);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::accepts([&] {
    for (const auto& [name, binding] : parse_layer_bindings(fuzz::text_of(data, size), "fuzzed")) {
      fuzz::require(name == binding.layer, "a layer has its own name");
      require_call(binding.call);
      if (!binding.backward) continue;
      if (binding.backward->call) require_call(*binding.backward->call);
      fuzz::require(!binding.backward->grads.empty(), "a backward gives a gradient");
      for (const auto& [input, result] : binding.backward->grads) {
        require_result(result, binding.backward->args);
      }
    }
  });
  return 0;
}
