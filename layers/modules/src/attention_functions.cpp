// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/layers/attention_functions.h"

#include "attention_in_torch.h"
#include "attention_package.h"
#include "modules_errors.h"

#include <map>
#include <mutex>
#include <utility>

namespace kernelhub {
namespace {

struct PackagedFunction {
  const char* name;
  const char* repo;
  std::int64_t version;
};

// What transformers loads for these names (kernels spec, section 7; models spec, section 6).
constexpr PackagedFunction kPackaged[] = {
    {"flash_attention_2", "kernels-community/flash-attn2", 4},
    {"flash_attention_3", "kernels-community/vllm-flash-attn3", 1},
    {"flash_attention_4", "kernels-community/flash-attn4", 0},
};

std::int64_t version_of(std::string_view repo) {
  for (const PackagedFunction& known : kPackaged) {
    if (repo == known.repo) return known.version;
  }
  return 1;
}

class AttentionRegistry {
 public:
  static AttentionRegistry& instance() {
    static AttentionRegistry registry;
    return registry;
  }

  void add(std::string name, AttentionFunction function) {
    const std::lock_guard lock(mutex_);
    functions_[std::move(name)] = std::move(function);
  }

  /// Empty where no function has this name.
  AttentionFunction find(std::string_view name) const {
    const std::lock_guard lock(mutex_);
    const auto found = functions_.find(name);
    return found == functions_.end() ? AttentionFunction() : found->second;
  }

  std::vector<std::string> names() const {
    const std::lock_guard lock(mutex_);
    std::map<std::string, bool> all;
    for (const auto& [name, function] : functions_) all[name] = true;
    for (const PackagedFunction& known : kPackaged) all[known.name] = true;
    std::vector<std::string> sorted;
    for (const auto& [name, unused] : all) sorted.push_back(name);
    return sorted;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, AttentionFunction, std::less<>> functions_{
      {"eager", layers::attend_eagerly}, {"sdpa", layers::attend_by_sdpa}};
};

}  // namespace

AttentionFunction attention_function(std::string_view name, const LoadOptions& options) {
  if (AttentionFunction registered = AttentionRegistry::instance().find(name)) return registered;
  for (const PackagedFunction& known : kPackaged) {
    if (name != known.name) continue;
    return layers::load_attention(std::string(name),
                                  {known.repo, KernelSpec::of_version(known.version), ""}, options);
  }
  if (const auto package = layers::parse_attention_package(name, version_of)) {
    return layers::load_attention(std::string(name), *package, options);
  }
  throw layers::modules_errors::unknown_attention(name, attention_function_names());
}

void register_attention_function(std::string name, AttentionFunction function) {
  using layers::modules_errors::bad_attention_call;
  if (name.empty() || name.find('/') != std::string::npos) {
    throw bad_attention_call(name, "name", "a name without '/', which names a hub package",
                             name.empty() ? "an empty one" : name);
  }
  if (!function) throw bad_attention_call(name, "function", "a callable", "an empty one");
  AttentionRegistry::instance().add(std::move(name), std::move(function));
}

std::vector<std::string> attention_function_names() {
  return AttentionRegistry::instance().names();
}

}  // namespace kernelhub
