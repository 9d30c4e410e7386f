// SPDX-License-Identifier: Apache-2.0
#include "torch_errors.h"

#include "kernelhub/core/core_errors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace kernelhub::torch_errors {
namespace {

using core_errors::facts_json;
using core_errors::printable;

std::string version_text(std::uint64_t version) {
  return fmt::format("{}.{}.{}", version >> 56, version >> 48 & 0xff, version >> 40 & 0xff);
}

}  // namespace

LoadError torch_mismatch(std::uint64_t running, std::uint64_t compiled) {
  return LoadError(
      ErrorCode::kTorchMismatch,
      fmt::format("libkernelhub_torch: compiled for torch {}, this process runs torch {}",
                  version_text(compiled), version_text(running)),
      "build kernelhub against the torch that runs",
      facts_json({{"compiled", version_text(compiled)}, {"running", version_text(running)}}));
}

LoadError op_not_found(std::string_view package, std::string_view name,
                       const std::vector<std::string>& near, bool is_torch_package) {
  std::string hint;
  if (!is_torch_package) {
    hint = "a tvm-ffi package has functions: use Kernel::function";
  } else if (!near.empty()) {
    hint = fmt::format("did you mean {}", fmt::join(near, ", "));
  }
  return LoadError(ErrorCode::kOpNotFound,
                   fmt::format("{}: has no torch op '{}'", package, printable(name)), hint,
                   facts_json({{"package", std::string(package)},
                               {"name", std::string(name)},
                               {"near", fmt::format("{}", fmt::join(near, ", "))}}));
}

LoadError schema_mismatch(std::string_view op, std::string_view wanted, std::string_view actual,
                          std::string_view difference) {
  return LoadError(ErrorCode::kSchemaMismatch,
                   fmt::format("{}: asked for as {}, its schema is {}: {}", op, wanted, actual,
                               printable(difference, 1000)),
                   "write the C++ signature that fits the schema",
                   facts_json({{"op", std::string(op)},
                               {"wanted", std::string(wanted)},
                               {"actual", std::string(actual)},
                               {"difference", std::string(difference)}}));
}

LoadError bad_tensor(std::size_t argument, std::string_view found) {
  return LoadError(
      ErrorCode::kBadTensor,
      fmt::format("argument {}: expected a strided tensor with memory, found {}", argument, found),
      {}, facts_json({{"argument", std::to_string(argument)}, {"found", std::string(found)}}));
}

}  // namespace kernelhub::torch_errors
