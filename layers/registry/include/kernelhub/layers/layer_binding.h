// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

/// How a package's metadata describes a layer: one call of one op, and one of another for its
/// gradients (docs/formats/layer-binding.md).
namespace kernelhub {

/// A number, flag or nothing in a binding.
using BindingConstant = std::variant<std::monostate, bool, std::int64_t, double>;

/// How a tensor is reshaped before an op gets it.
struct TensorLayout {
  bool contiguous = false;
  bool as_2d = false;                     // "view": "2d", all leading dims merged
  std::optional<std::int64_t> unsqueeze;  // dim inserted
};
/// One tensor among what an op gives: `"out"`, `"out.k"` or an index into what it returns.
struct BindingResult {
  bool is_out = false;
  std::int64_t index = 0;
};
/// `{"in": name}`: argument of forward.
struct ForwardArgument {
  std::string name;
  TensorLayout layout;
};
/// `{"param": name}` or `{"buffer": name}`: dotted name in the module.
struct ModuleTensor {
  enum class Kind { kParameter, kBuffer } kind = Kind::kParameter;
  std::string name;
  bool optional = false;
};
/// `{"attr": name}`: scalar of the module.
struct ModuleScalar {
  std::string name;
  std::optional<BindingConstant> fallback;  // "default"
};
/// `{"const": value}` or `{"null": true}`.
struct ConstantArgument {
  BindingConstant value;
};
/// `{"dim": [name, d]}`: size of a forward argument.
struct DimArgument {
  std::string name;
  std::int64_t dim = 0;
};
/// `{"out": {...}}`: tensor allocated for the call.
struct OutputArgument {
  std::string like;                   // tensor whose shape and dtype it has: forward argument, or
                                      // in a backward a parameter of the module
  std::int64_t last_dim_divisor = 1;  // "last_dim": "/2"
  std::int64_t last_dim_factor = 1;   // "last_dim": "*2"
  std::string dtype;                  // empty: that of `like`
};
/// `{"grad": k}`, in a backward: gradient of the forward's k-th result.
struct GradArgument {
  std::int64_t index = 0;
  TensorLayout layout;
};
/// `{"saved": result}`, in a backward: what the forward's op gave.
struct SavedArgument {
  BindingResult result;
  TensorLayout layout;
};
/// `{"needs": name}`, in a backward: whether this gradient is asked for.
struct NeedsArgument {
  std::string name;
};
using BindingArgument =
    std::variant<ForwardArgument, ModuleTensor, ModuleScalar, ConstantArgument, DimArgument,
                 OutputArgument, GradArgument, SavedArgument, NeedsArgument>;

/// Conditions on the tensor arguments of a call; where they do not hold the module's own forward
/// runs.
struct BindingGuard {
  std::vector<std::string> dtypes;  // empty: all
  bool contiguous = false;
  std::optional<std::int64_t> last_dim_multiple;
  std::optional<std::int64_t> max_dims;
};

/// One call of one op, as the forward.
struct BindingCall {
  std::string op;  // "name" or "name.overload", no namespace
  std::vector<BindingArgument> args;
  std::vector<BindingResult> results;  // one per result of the forward
  std::string reshape_like;            // forward argument; empty: as it is
};

/// One call of one op that gives gradients.
struct BackwardBinding {
  std::optional<BindingCall> call;  // runs the forward where gradients are asked for
  std::string op;
  std::vector<BindingArgument> args;
  /// Gradient of each forward argument or parameter of the module that has one.
  std::vector<std::pair<std::string, BindingResult>> grads;
};

struct LayerBinding {
  std::string layer;
  std::string forward;  // "(Tensor x) -> Tensor"
  bool can_torch_compile = false;
  BindingGuard when;
  BindingCall call;
  std::optional<BackwardBinding> backward;
};

/// Parses the object `kernelhub.layers` of a package's metadata (Metadata::kernelhub, layers_json);
/// `origin` names the package in errors. An empty text is no layers.
/// Throws kInvalidBinding with the JSON path of the field, kInvalidJson.
KERNELHUB_API std::map<std::string, LayerBinding> parse_layer_bindings(std::string_view layers_json,
                                                                       std::string_view origin);

}  // namespace kernelhub
