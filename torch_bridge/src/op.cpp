// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/torch/op.h"

#include "torch_errors.h"

#include "kernelhub/loader/near_names.h"

#include <sstream>

namespace kernelhub {
namespace {

template <class T>
std::string printed(const T& value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

}  // namespace

namespace detail {

c10::OperatorHandle find_operator(const Package& package, std::string_view name) {
  const PackageInfo& info = package.info();
  const bool is_torch = info.framework == PackageInfo::Framework::kTorch;
  if (is_torch) {
    const std::size_t dot = name.find('.');
    const std::string overload(dot == std::string_view::npos ? "" : name.substr(dot + 1));
    const std::string qualified = info.op_namespace + "::" + std::string(name.substr(0, dot));
    const auto handle = c10::Dispatcher::singleton().findSchema({qualified, overload});
    if (handle) return *handle;
  }
  throw torch_errors::op_not_found(info.metadata.id, name, loader::near_names(name, package.ops()),
                                   is_torch);
}

void require_schema(const c10::OperatorHandle& handle, const c10::FunctionSchema& inferred) {
  const std::optional<std::string> difference =
      c10::findSchemaDifferences(inferred, handle.schema());
  if (!difference) return;
  throw torch_errors::schema_mismatch(c10::toString(handle.operator_name()), printed(inferred),
                                      printed(handle.schema()), *difference);
}

void fail_signature(const c10::OperatorHandle& handle, const c10::Error& error) {
  throw torch_errors::schema_mismatch(c10::toString(handle.operator_name()),
                                      "another C++ signature", printed(handle.schema()),
                                      error.what_without_backtrace());
}

}  // namespace detail

BoxedOp Kernel::boxed(std::string_view name) const {
  return BoxedOp(detail::find_operator(package_, name), package_);
}

}  // namespace kernelhub
