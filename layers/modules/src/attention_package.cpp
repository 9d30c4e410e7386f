// SPDX-License-Identifier: Apache-2.0
// Attention of hub packages: one table says which argument of an op gets what, by the names that
// our ops and those of FlashAttention 2 and 3 give them.
#include "attention_package.h"

#include "attention_mask.h"
#include "modules_errors.h"

#include "kernelhub/core/log.h"
#include "kernelhub/torch/op.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <array>
#include <utility>

namespace kernelhub::layers {
namespace {

enum class Field {
  kOut,
  kLse,
  kQuery,
  kKey,
  kValue,
  kCuQueries,
  kCuKeys,
  kMaxQueries,
  kMaxKeys,
  kSinks,
  kDropout,
  kScale,
  kCausal,
  kWindowLeft,
  kWindowRight,
  kSoftcap,
  kFalse,
  kZero,
  kNothing,
};

struct NamedField {
  std::string_view name;
  Field field;
};

constexpr NamedField kFields[] = {
    {"out", Field::kOut},
    {"out_", Field::kOut},
    {"lse", Field::kLse},
    {"q", Field::kQuery},
    {"k", Field::kKey},
    {"v", Field::kValue},
    {"cu_seqlens_q", Field::kCuQueries},
    {"cu_seqlens_q_", Field::kCuQueries},
    {"cu_seqlens_k", Field::kCuKeys},
    {"cu_seqlens_k_", Field::kCuKeys},
    {"max_seqlen_q", Field::kMaxQueries},
    {"max_seqlen_q_", Field::kMaxQueries},
    {"max_seqlen_k", Field::kMaxKeys},
    {"max_seqlen_k_", Field::kMaxKeys},
    {"s_aux", Field::kSinks},
    {"s_aux_", Field::kSinks},
    {"p_dropout", Field::kDropout},
    {"softmax_scale", Field::kScale},
    {"softmax_scale_", Field::kScale},
    {"causal", Field::kCausal},
    {"is_causal", Field::kCausal},
    {"window_left", Field::kWindowLeft},
    {"window_size_left", Field::kWindowLeft},
    {"window_right", Field::kWindowRight},
    {"window_size_right", Field::kWindowRight},
    {"softcap", Field::kSoftcap},
    {"return_softmax", Field::kFalse},
    {"zero_tensors", Field::kFalse},
    {"rotary_interleaved", Field::kFalse},
    {"is_rotary_interleaved", Field::kFalse},
    {"num_splits", Field::kZero},
    {"sm_margin", Field::kZero},
    {"attention_chunk", Field::kZero},
};

/// One forward pass as an op sees it.
struct PackedCall {
  at::Tensor query;  // [batch, rows, heads, dim], or [total, heads, dim] with cu_*
  at::Tensor key;
  at::Tensor value;
  std::optional<at::Tensor> cu_queries;  // int32 [batch + 1]
  std::optional<at::Tensor> cu_keys;
  std::int64_t max_queries = 0;
  std::int64_t max_keys = 0;
};

/// An op with what each of its arguments gets.
class AttentionOp {
 public:
  AttentionOp(const Kernel& kernel, std::string_view name)
      : package_(kernel.package()), handle_(detail::find_operator(kernel.package(), name)) {
    for (const c10::Argument& argument : handle_.schema().arguments()) {
      fields_.push_back(field_of(argument));
    }
    for (const Field needed : {Field::kQuery, Field::kKey, Field::kValue, Field::kScale}) {
      if (!takes(needed)) fail("arguments q, k, v and softmax_scale");
    }
    const auto& returns = handle_.schema().returns();
    returns_list_ = returns.size() == 1 && returns[0].type()->kind() == c10::TypeKind::ListType;
    const bool returns_tensor =
        !returns.empty() && returns[0].type()->kind() == c10::TypeKind::TensorType;
    if (!returns_list_ && !returns_tensor && !takes(Field::kOut)) fail("a Tensor as result");
    has_result_ = returns_list_ || returns_tensor;
  }

  bool takes(Field field) const {
    return std::find(fields_.begin(), fields_.end(), field) != fields_.end();
  }

  bool has_backward() const {
    using Key = c10::DispatchKey;
    return std::any_of(kAutogradKeys.begin(), kAutogradKeys.end(),
                       [this](Key key) { return handle_.hasKernelForDispatchKey(key); });
  }

  at::Tensor operator()(const PackedCall& call, const AttentionArguments& arguments,
                        double dropout) const {
    at::Tensor out;
    torch::jit::Stack stack;
    stack.reserve(fields_.size());
    for (const Field field : fields_) {
      stack.push_back(value_of(field, call, arguments, dropout));
      if (field == Field::kOut && !has_result_) out = stack.back().toTensor();
    }
    handle_.callBoxed(stack);
    if (!has_result_) return out;
    return returns_list_ ? stack.at(0).toTensorVector().at(0) : stack.at(0).toTensor();
  }

 private:
  static constexpr std::array kAutogradKeys{
      c10::DispatchKey::Autograd, c10::DispatchKey::AutogradCPU, c10::DispatchKey::AutogradCUDA,
      c10::DispatchKey::CompositeImplicitAutograd};

  [[noreturn]] void fail(std::string_view expected) const {
    throw modules_errors::unusable_attention_op(package_.info().metadata.id,
                                                c10::toString(handle_.schema()), expected);
  }

  Field field_of(const c10::Argument& argument) const {
    for (const NamedField& known : kFields) {
      if (known.name == argument.name()) return known.field;
    }
    if (argument.type()->kind() != c10::TypeKind::OptionalType) {
      fail("no other argument that must be given than those of FlashAttention, found " +
           argument.name());
    }
    return Field::kNothing;
  }

  c10::IValue value_of(Field field, const PackedCall& call, const AttentionArguments& arguments,
                       double dropout) const {
    const auto optional = [](const std::optional<at::Tensor>& tensor) {
      return tensor ? c10::IValue(*tensor) : c10::IValue();
    };
    const std::int64_t window = arguments.sliding_window.value_or(0) - 1;
    switch (field) {
      case Field::kOut:
        return has_result_ ? c10::IValue() : c10::IValue(new_output(call));
      case Field::kLse:
        return at::empty(lse_sizes(call), call.query.options().dtype(at::kFloat));
      case Field::kQuery:
        return call.query;
      case Field::kKey:
        return call.key;
      case Field::kValue:
        return call.value;
      case Field::kCuQueries:
        return optional(call.cu_queries);
      case Field::kCuKeys:
        return optional(call.cu_keys);
      case Field::kMaxQueries:
        return call.max_queries;
      case Field::kMaxKeys:
        return call.max_keys;
      case Field::kSinks:
        return arguments.sinks ? c10::IValue(arguments.sinks->to(at::kFloat)) : c10::IValue();
      case Field::kDropout:
        return dropout;
      case Field::kScale:
        return arguments.scale;
      case Field::kCausal:
        return arguments.is_causal;
      case Field::kWindowLeft:
        return window < 0 ? std::int64_t{-1} : window;
      case Field::kWindowRight:
        if (arguments.is_causal) return std::int64_t{window < 0 ? -1 : 0};
        return window < 0 ? std::int64_t{-1} : window;
      case Field::kSoftcap:
        return arguments.softcap;
      case Field::kFalse:
        return false;
      case Field::kZero:
        return std::int64_t{0};
      case Field::kNothing:
        break;
    }
    return {};
  }

  static at::Tensor new_output(const PackedCall& call) {
    std::vector<std::int64_t> sizes = call.query.sizes().vec();
    sizes.back() = call.value.size(-1);
    return at::empty(sizes, call.query.options());
  }

  static std::vector<std::int64_t> lse_sizes(const PackedCall& call) {
    const at::Tensor& query = call.query;
    if (call.cu_queries) return {query.size(1), query.size(0)};
    return {query.size(0), query.size(2), query.size(1)};
  }

  Package package_;
  c10::OperatorHandle handle_;
  std::vector<Field> fields_;
  bool returns_list_ = false;
  bool has_result_ = false;
};

/// Rows of [batch, rows] that are no padding: their flat numbers and the sequences' boundaries.
struct Unpadding {
  at::Tensor rows;        // int64 [total]
  at::Tensor boundaries;  // int32 [batch + 1]
  std::int64_t longest = 0;
};

Unpadding unpad(const at::Tensor& is_row) {
  const at::Tensor lengths = is_row.sum(-1, /*keepdim=*/false, at::kInt);
  const at::Tensor zero = at::zeros({1}, lengths.options());
  return {is_row.flatten().nonzero().flatten(), at::cat({zero, lengths.cumsum(0, at::kInt)}),
          lengths.numel() == 0 ? 0 : lengths.max().item<std::int64_t>()};
}

class PackageAttention {
 public:
  PackageAttention(std::string name, const Kernel& kernel, const std::string& op)
      : name_(std::move(name)), dense_(op_named(kernel, op)) {
    if (dense_.takes(Field::kCuQueries)) return;
    if (!op.empty()) return;
    try {
      varlen_.emplace(kernel, "varlen_fwd");
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kOpNotFound) throw;
    }
  }

  Attention operator()(const torch::nn::Module& module, const at::Tensor& query,
                       const at::Tensor& key, const at::Tensor& value,
                       const std::optional<at::Tensor>& mask,
                       const AttentionArguments& arguments) const {
    checked_group(name_, query, key, value, arguments);
    const double dropout = module.is_training() ? arguments.dropout : 0.0;
    require_support(query, key, value, arguments, dropout);
    const at::ScalarType dtype = call_dtype(module, query);
    const auto rows_first = [dtype](const at::Tensor& tensor) {
      return tensor.to(dtype).transpose(1, 2);
    };
    PackedCall call{rows_first(query), rows_first(key), rows_first(value), {}, {},
                    query.size(2),     key.size(2)};
    const std::optional<at::Tensor> seen = padding_mask(mask, query, key);
    const at::Tensor out =
        seen ? without_padding(call, *seen, arguments, dropout) : dense_(call, arguments, dropout);
    return {out.to(query.scalar_type()).contiguous(), {}};
  }

 private:
  static AttentionOp op_named(const Kernel& kernel, const std::string& op) {
    if (!op.empty()) return {kernel, op};
    try {
      return {kernel, "attention_forward"};
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kOpNotFound) throw;
    }
    return {kernel, "fwd"};
  }

  void require_support(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                       const AttentionArguments& arguments, double dropout) const {
    for (const at::Tensor* tensor : {&query, &key, &value}) {
      if (tensor->numel() != 0) continue;
      throw modules_errors::bad_attention_call(name_, "query, key and value",
                                               "no dimension of size 0", "one");
    }
    if (dropout > 0.0 && !dense_.takes(Field::kDropout)) {
      throw modules_errors::attention_lacks(name_, "dropout");
    }
    if (arguments.sinks && !dense_.takes(Field::kSinks)) {
      throw modules_errors::attention_lacks(name_, "sinks");
    }
    if (arguments.softcap > 0.0 && !dense_.takes(Field::kSoftcap)) {
      throw modules_errors::attention_lacks(name_, "a softcap");
    }
    if (arguments.sliding_window && !dense_.takes(Field::kWindowLeft)) {
      throw modules_errors::attention_lacks(name_, "a sliding window");
    }
    const bool needs_grad = at::GradMode::is_enabled() &&
                            (query.requires_grad() || key.requires_grad() || value.requires_grad());
    if (needs_grad && !dense_.has_backward()) {
      throw modules_errors::attention_lacks(name_, "gradients (its op has no backward)");
    }
    if (arguments.wants_weights) {
      warn_once("attention.weights:" + name_,
                "attention function '" + name_ + "' returns no weights; 'eager' does");
    }
  }

  /// CUDA packages have kernels for 16 bits only: fp32 is cast to the dtype of the module's
  /// weights.
  at::ScalarType call_dtype(const torch::nn::Module& module, const at::Tensor& query) const {
    if (query.scalar_type() != at::kFloat || !query.is_cuda()) return query.scalar_type();
    for (const at::Tensor& parameter : module.parameters()) {
      const at::ScalarType dtype = parameter.scalar_type();
      if (dtype != at::kHalf && dtype != at::kBFloat16) continue;
      warn_once("attention.cast:" + name_,
                "attention function '" + name_ +
                    "' casts float32 inputs to the dtype of the module's weights");
      return dtype;
    }
    throw modules_errors::bad_attention_call(
        name_, "query dtype", "float16 or bfloat16 on CUDA, or a module with such weights",
        "float32");
  }

  /// [batch, keys] of true where a key is no padding; nothing where the mask hides nothing.
  std::optional<at::Tensor> padding_mask(const std::optional<at::Tensor>& mask,
                                         const at::Tensor& query, const at::Tensor& key) const {
    if (!mask) return {};
    at::Tensor flat = *mask;
    while (flat.dim() > 2 && flat.size(1) == 1) flat = flat.squeeze(1);
    if (flat.dim() != 2 || flat.size(0) != query.size(0) || flat.size(1) != key.size(2)) {
      throw modules_errors::bad_attention_call(
          name_, "mask",
          "one that hides padding, [batch, keys] or [batch, 1, 1, keys] (causality and windows are "
          "arguments)",
          "another shape");
    }
    if (flat.scalar_type() != at::kBool) {
      flat = flat.is_floating_point() ? flat == 0.0 : flat.to(at::kBool);
    }
    if (flat.all().item<bool>()) return {};
    return flat;
  }

  at::Tensor without_padding(const PackedCall& padded, const at::Tensor& is_key,
                             const AttentionArguments& arguments, double dropout) const {
    const AttentionOp* op = dense_.takes(Field::kCuQueries) ? &dense_ : nullptr;
    if (op == nullptr && varlen_) op = &*varlen_;
    if (op == nullptr) throw modules_errors::attention_lacks(name_, "padding (no varlen op)");
    const std::int64_t batch = padded.query.size(0);
    const std::int64_t queries = padded.query.size(1);
    const std::int64_t keys = padded.key.size(1);
    // Queries are the last of the keys' positions; a single one is never padding.
    const at::Tensor is_query = queries == 1 || queries > keys
                                    ? is_key.new_full({batch, queries}, true)
                                    : is_key.slice(1, keys - queries, keys);
    const Unpadding q = unpad(is_query);
    const Unpadding k = unpad(is_key);
    const auto packed = [](const at::Tensor& tensor, const Unpadding& rows) {
      return tensor.flatten(0, 1).index_select(0, rows.rows);
    };
    const PackedCall call{packed(padded.query, q),
                          packed(padded.key, k),
                          packed(padded.value, k),
                          q.boundaries,
                          k.boundaries,
                          q.longest,
                          k.longest};
    const at::Tensor out = (*op)(call, arguments, dropout);
    const at::Tensor all = at::zeros({batch * queries, out.size(1), out.size(2)}, out.options());
    return all.index_copy(0, q.rows, out).view({batch, queries, out.size(1), out.size(2)});
  }

  std::string name_;
  AttentionOp dense_;
  std::optional<AttentionOp> varlen_;
};

}  // namespace

std::optional<AttentionPackage> parse_attention_package(
    std::string_view name, const std::function<std::int64_t(std::string_view)>& version_of) {
  const std::size_t colon = name.find(':');
  const std::string_view op = colon == name.npos ? "" : name.substr(colon + 1);
  const std::string_view path = name.substr(0, colon);
  const std::size_t at = path.find('@');
  const std::string_view revision = at == path.npos ? "" : path.substr(at + 1);
  const std::string_view repo = path.substr(0, at);
  const std::size_t slash = repo.find('/');
  const bool is_named = slash != repo.npos && slash > 0 && slash + 1 < repo.size() &&
                        repo.find('/', slash + 1) == repo.npos;
  const bool has_bad_part =
      (colon != name.npos && (op.empty() || op.find_first_of("/:") != op.npos)) ||
      (at != path.npos && (revision.empty() || revision.find('/') != revision.npos));
  if (!is_named || has_bad_part) return {};
  const KernelSpec spec = at == path.npos ? KernelSpec::of_version(version_of(repo))
                                          : KernelSpec::of_revision(std::string(revision));
  return AttentionPackage{std::string(repo), spec, std::string(op)};
}

AttentionFunction load_attention(std::string name, const AttentionPackage& package,
                                 const LoadOptions& options) {
  const Kernel kernel = get_kernel(package.repo, package.spec, options);
  return PackageAttention(std::move(name), kernel, package.op);
}

}  // namespace kernelhub::layers
