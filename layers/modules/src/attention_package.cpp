// SPDX-License-Identifier: Apache-2.0
// Attention of hub packages: one table says which argument of an op gets what, by the names that
// our ops and those of FlashAttention 2 and 3 give them.
#include "attention_package.h"

#include "attention_mask.h"
#include "modules_errors.h"
#include "op_call.h"

#include "kernelhub/core/log.h"
#include "kernelhub/torch/op.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/nn/module.h>

#include <algorithm>
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

/// Addends from here on hide a key: what models write, in fp16 too.
constexpr double kHiding = -1e4;

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
    if (takes(Field::kCuQueries) != takes(Field::kCuKeys)) {
      fail("both of cu_seqlens_q and cu_seqlens_k, or neither");
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

  /// The op runs on flat rows only: boundaries are no choice of its caller.
  bool needs_boundaries() const {
    const auto& arguments = handle_.schema().arguments();
    for (std::size_t i = 0; i < fields_.size(); ++i) {
      if (fields_[i] != Field::kCuQueries) continue;
      return arguments[i].type()->kind() != c10::TypeKind::OptionalType;
    }
    return false;
  }

  /// Throws kSchemaMismatch unless the op takes sequences of many lengths.
  void require_varlen() const {
    if (!takes(Field::kCuQueries)) fail("cu_seqlens_q and cu_seqlens_k");
  }

  bool has_backward() const { return records_gradients(handle_); }

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
  std::int64_t longest;   // 0 where nobody asks for it: it is read back from the device
};

Unpadding unpad(const at::Tensor& is_row, bool needs_longest) {
  const at::Tensor lengths = is_row.sum(-1, /*keepdim=*/false, at::kInt);
  const at::Tensor zero = at::zeros({1}, lengths.options());
  return {is_row.flatten().nonzero().flatten(), at::cat({zero, lengths.cumsum(0, at::kInt)}),
          needs_longest ? lengths.max().item<std::int64_t>() : 0};
}

/// Boundaries of `batch` sequences of `rows` rows each: int32 [batch + 1].
at::Tensor even_boundaries(std::int64_t batch, std::int64_t rows, const at::Tensor& like) {
  return at::arange(batch + 1, like.options().dtype(at::kInt)) * rows;
}

class PackageAttention {
 public:
  PackageAttention(std::string name, const Kernel& kernel, const std::string& op)
      : name_(std::move(name)), dense_(op_named(kernel, op)) {
    if (dense_.takes(Field::kCuQueries) || !op.empty()) return;
    try {
      varlen_.emplace(kernel, "varlen_fwd");
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kOpNotFound) throw;
      return;
    }
    varlen_->require_varlen();
  }

  Attention operator()(const torch::nn::Module& module, const at::Tensor& query,
                       const at::Tensor& key, const at::Tensor& value,
                       const std::optional<at::Tensor>& mask,
                       const AttentionArguments& arguments) const {
    checked_group(name_, query, key, value, arguments);
    for (const at::Tensor* tensor : {&query, &key, &value}) {
      if (tensor->numel() != 0) continue;
      throw modules_errors::bad_attention_call(name_, "query, key and value",
                                               "no dimension of size 0", "one");
    }
    if (arguments.wants_weights) {
      warn_once("attention.weights:" + name_,
                "attention function '" + name_ + "' returns no weights; 'eager' does");
    }
    const double dropout = module.is_training() ? arguments.dropout : 0.0;
    const at::ScalarType dtype = call_dtype(module, query);
    const auto rows_first = [dtype](const at::Tensor& tensor) {
      return tensor.to(dtype).transpose(1, 2);
    };
    const PackedCall call{rows_first(query), rows_first(key), rows_first(value), {}, {},
                          query.size(2),     key.size(2)};
    const at::Tensor out =
        mask ? without_padding(call, keys_seen(*mask, query, key), arguments, dropout)
             : whole(call, arguments, dropout);
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

  /// Refuses what `op`, the one about to be called, would leave out.
  void require_support(const AttentionOp& op, const PackedCall& call,
                       const AttentionArguments& arguments, double dropout) const {
    const bool has_window = arguments.sliding_window.has_value();
    const bool takes_window =
        op.takes(Field::kWindowLeft) && (op.takes(Field::kWindowRight) || arguments.is_causal);
    // A single query is the last: causality hides nothing from it.
    const bool is_causal = arguments.is_causal && call.max_queries > 1;
    const struct {
      bool is_asked;
      bool is_there;
      const char* name;
    } features[] = {
        {is_causal, op.takes(Field::kCausal), "causality"},
        {has_window, takes_window, "a sliding window"},
        {arguments.softcap > 0.0, op.takes(Field::kSoftcap), "a softcap"},
        {dropout > 0.0, op.takes(Field::kDropout), "dropout"},
        {arguments.sinks.has_value(), op.takes(Field::kSinks), "sinks"},
        {needs_grad(call, arguments), op.has_backward(), "gradients (its op has no backward)"},
    };
    for (const auto& feature : features) {
      if (!feature.is_asked || feature.is_there) continue;
      throw modules_errors::attention_lacks(name_, feature.name);
    }
  }

  static bool needs_grad(const PackedCall& call, const AttentionArguments& arguments) {
    if (!at::GradMode::is_enabled()) return false;
    return call.query.requires_grad() || call.key.requires_grad() || call.value.requires_grad() ||
           (arguments.sinks && arguments.sinks->requires_grad());
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

  /// [batch, keys] of true where a key is no padding.
  at::Tensor keys_seen(const at::Tensor& mask, const at::Tensor& query,
                       const at::Tensor& key) const {
    const at::Tensor given = checked_mask(name_, mask, query, key);
    if (given.size(1) != 1 || given.size(2) != 1) {
      throw modules_errors::bad_attention_call(
          name_, "mask",
          "one that hides the same keys from all heads and queries, [batch, keys] or [batch, 1, 1, "
          "keys] (causality and windows are arguments)",
          "a mask of heads or queries");
    }
    const at::Tensor flat = given.squeeze(1).squeeze(1).expand({query.size(0), -1});
    if (flat.scalar_type() == at::kBool) return flat;
    const at::Tensor is_seen = flat == 0.0;
    if ((is_seen | (flat <= kHiding)).all().item<bool>()) return is_seen;
    throw modules_errors::bad_attention_call(
        name_, "mask", "0 where a key is seen and a large negative addend where not", "a bias");
  }

  /// Every row of the call.
  at::Tensor whole(const PackedCall& call, const AttentionArguments& arguments,
                   double dropout) const {
    require_support(dense_, call, arguments, dropout);
    if (!dense_.needs_boundaries()) return dense_(call, arguments, dropout);
    const std::int64_t batch = call.query.size(0);
    const PackedCall flat{call.query.flatten(0, 1),
                          call.key.flatten(0, 1),
                          call.value.flatten(0, 1),
                          even_boundaries(batch, call.max_queries, call.query),
                          even_boundaries(batch, call.max_keys, call.query),
                          call.max_queries,
                          call.max_keys};
    return dense_(flat, arguments, dropout).unflatten(0, {batch, call.max_queries});
  }

  /// [batch, queries] of true where a query is asked for. One whose own key is hidden is padding
  /// where its place among the keys matters: without it, what causality and windows count from is
  /// the last key that is seen.
  at::Tensor queries_seen(const at::Tensor& is_key, std::int64_t queries,
                          const AttentionArguments& arguments) const {
    const std::int64_t batch = is_key.size(0);
    const std::int64_t keys = is_key.size(1);
    const auto refuse = [this](std::string_view expected, std::string_view found) {
      throw modules_errors::bad_attention_call(name_, "mask", expected, std::string(found));
    };
    const bool has_place = queries > 1 && (arguments.is_causal || arguments.sliding_window);
    if (has_place && queries > keys) {
      refuse("none, or as many keys as queries under causality or a window", "more queries");
    }
    if (arguments.sliding_window) {
      // Leaving keys out of the middle would move those before them into the window.
      const at::Tensor begins =
          at::cat({is_key.slice(1, 0, 1), is_key.slice(1, 1) & ~is_key.slice(1, 0, keys - 1)}, 1);
      at::Tensor is_unbroken = begins.sum(1) <= 1;
      if (queries == 1) is_unbroken = is_unbroken & (is_key.select(1, keys - 1) | ~is_key.any(1));
      if (!is_unbroken.all().item<bool>()) {
        refuse("keys without a gap, up to that of a single query, where a window counts them",
               "gaps");
      }
    }
    if (!has_place) return is_key.new_full({batch, queries}, true);
    return is_key.slice(1, keys - queries, keys);
  }

  at::Tensor without_padding(const PackedCall& padded, const at::Tensor& is_key,
                             const AttentionArguments& arguments, double dropout) const {
    const AttentionOp* op = dense_.takes(Field::kCuQueries) ? &dense_ : nullptr;
    if (op == nullptr && varlen_) op = &*varlen_;
    const std::int64_t batch = padded.query.size(0);
    const std::int64_t queries = padded.query.size(1);
    const std::int64_t keys = padded.key.size(1);
    const Unpadding k = unpad(is_key, op != nullptr && op->takes(Field::kMaxKeys));
    if (k.rows.numel() == batch * keys) return whole(padded, arguments, dropout);
    if (op == nullptr) throw modules_errors::attention_lacks(name_, "padding (no varlen op)");
    require_support(*op, padded, arguments, dropout);
    const Unpadding q =
        unpad(queries_seen(is_key, queries, arguments), op->takes(Field::kMaxQueries));
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
