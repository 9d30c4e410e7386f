// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/builder/build_toml.h"

#include "builder_errors.h"
#include "cuda_archs.h"
#include "toml_fields.h"

#include "kernelhub/core/atomic_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <set>
#include <sstream>

namespace kernelhub::builder {
namespace {

constexpr std::array<std::string_view, 6> kGitSchemes = {"http", "https",   "git",
                                                         "ssh",  "git+ssh", "git+http"};
constexpr std::array<std::string_view, 11> kDependencies = {
    "torch",       "cutlass_2_10", "cutlass_3_5", "cutlass_3_6", "cutlass_3_8", "cutlass_3_9",
    "cutlass_4_0", "cutlass_4_2",  "cutlass_4_5", "sycl_tla",    "metal-cpp"};

struct PythonDependency {
  std::string_view name;
  std::optional<BackendKind> backend;  // nothing: every backend
};
constexpr std::array<PythonDependency, 6> kPythonDependencies = {{
    {"einops", std::nullopt},
    {"helion", std::nullopt},
    {"tvm-ffi", std::nullopt},
    {"nvidia-cutlass-dsl", BackendKind::kCuda},
    {"nki", BackendKind::kNeuron},
    {"onednn", BackendKind::kXpu},
}};

bool is_git_url(std::string_view url) {
  const std::size_t colon = url.find("://");
  if (colon != std::string_view::npos) {
    const std::string_view scheme = url.substr(0, colon);
    return url.size() > colon + 3 &&
           (scheme == "git+https" ||
            std::find(kGitSchemes.begin(), kGitSchemes.end(), scheme) != kGitSchemes.end());
  }
  const std::size_t at = url.find('@');
  const std::size_t path = url.find(':');
  return at != std::string_view::npos && at > 0 && path != std::string_view::npos &&
         path > at + 1 && path + 1 < url.size();
}

std::optional<std::string> git_url(const TomlFields& fields, std::string_view key) {
  std::optional<std::string> url = fields.string(key);
  if (url && !is_git_url(*url)) {
    fields.error(key, fmt::format("expected a git URL (http, https, git, ssh or user@host:path), "
                                  "found \"{}\"",
                                  *url));
  }
  return url;
}

std::optional<BackendKind> backend(const TomlFields& fields, std::string_view key,
                                   std::string_view name) {
  std::optional<BackendKind> kind = parse_backend_name(name);
  if (!kind) {
    fields.error(key, fmt::format("unknown backend \"{}\", expected one of: cann, cpu, cuda, "
                                  "metal, neuron, rocm, tpu, xpu",
                                  name));
  }
  return kind;
}

VersionRange range(const TomlFields& fields) {
  VersionRange range{fields.version("minver"), fields.version("maxver")};
  if (range.min && range.max && *range.max < *range.min) {
    fields.error("maxver",
                 fmt::format("{} is below minver {}", range.max->str(), range.min->str()));
  }
  return range;
}

std::vector<std::string> python_depends(const TomlFields& fields,
                                        std::optional<BackendKind> of_backend) {
  std::vector<std::string> names = fields.strings("python-depends");
  for (const std::string& name : names) {
    const auto known =
        std::find_if(kPythonDependencies.begin(), kPythonDependencies.end(),
                     [&](const PythonDependency& entry) { return entry.name == name; });
    if (known != kPythonDependencies.end() && (!known->backend || known->backend == of_backend)) {
      continue;
    }
    std::vector<std::string_view> allowed;
    for (const PythonDependency& entry : kPythonDependencies) {
      if (!entry.backend || entry.backend == of_backend) allowed.push_back(entry.name);
    }
    fields.error("python-depends", fmt::format("unsupported dependency \"{}\", expected one of: {}",
                                               name, fmt::join(allowed, ", ")));
  }
  return names;
}

std::vector<Metadata::Dependency> kernel_depends(const TomlFields& general) {
  std::vector<Metadata::Dependency> dependencies;
  for (const TomlFields& entry : general.tables("kernel-depends")) {
    entry.only({"repo-id", "version", "revision"});
    const std::string repo = entry.required_string("repo-id");
    KernelSpec spec{entry.integer("version"), entry.string("revision")};
    try {
      spec.validate();
      dependencies.push_back({RepoId::parse(repo), spec});
    } catch (const Error& error) {
      entry.error("", error.what());
    }
  }
  return dependencies;
}

void read_backends(const TomlFields& general, BuildToml& project) {
  if (!general.has("backends")) {
    general.error("backends", "missing, expected an array of backend names");
    return;
  }
  for (const std::string& name : general.strings("backends")) {
    const std::optional<BackendKind> kind = backend(general, "backends", name);
    if (!kind) continue;
    if (std::count(project.backends.begin(), project.backends.end(), *kind) != 0) {
      general.error("backends", fmt::format("\"{}\" is listed twice", name));
    }
    project.backends.push_back(*kind);
  }
  if (const toml::array* list = general.toml()["backends"].as_array(); list && list->empty()) {
    general.error("backends", "empty, expected at least one backend");
  }
}

void read_backend_table(const TomlFields& general, BackendKind kind, BuildToml& project) {
  const std::optional<TomlFields> fields = general.table(backend_name(kind));
  if (!fields) return;
  if (kind == BackendKind::kCuda) {
    fields->only({"minver", "maxver", "python-depends", "kernel-depends"});
    project.cuda_toolkits = range(*fields);
  } else if (kind == BackendKind::kTpu) {
    fields->only({"python-depends"});
  } else {
    fields->only({"python-depends", "kernel-depends"});
  }
  project.backend_python_depends[kind] = python_depends(*fields, kind);
  project.backend_kernel_depends[kind] = kernel_depends(*fields);
}

void read_hub(const TomlFields& general, BuildToml& project) {
  const std::optional<TomlFields> hub = general.table("hub");
  if (!hub) return;
  hub->only({"repo-id", "branch"});
  if (const std::optional<std::string> repo = hub->string("repo-id")) {
    try {
      project.hub_repo = RepoId::parse(*repo);
    } catch (const Error& error) {
      hub->error("repo-id", error.what());
    }
  }
  project.hub_branch = hub->string("branch");
}

void read_general(const TomlFields& general, bool edition4, BuildToml& project) {
  general.only({"name", "version", "edition", "license", "backends", "upstream", "source",
                "python-depends", "kernel-depends", "hub", "cuda", "xpu", "neuron", "tpu"});
  project.name = general.required_string("name");
  if (!project.name.empty() && !is_kernel_name(project.name)) {
    general.error("name", fmt::format("expected lower-case letters, digits and '-', starting with "
                                      "a letter, at least two characters; found \"{}\"",
                                      project.name));
  }
  if (!general.has("version")) general.error("version", "missing, expected an unsigned integer");
  project.version = general.integer("version").value_or(0);
  if (project.version < 0) general.error("version", "expected an unsigned integer");
  project.license = general.required_string("license");
  project.upstream = git_url(general, "upstream");
  project.source = git_url(general, "source");
  project.python_depends = python_depends(general, std::nullopt);
  project.kernel_depends = kernel_depends(general);
  read_backends(general, project);
  for (BackendKind kind :
       {BackendKind::kCuda, BackendKind::kXpu, BackendKind::kNeuron, BackendKind::kTpu}) {
    read_backend_table(general, kind, project);
  }
  read_hub(general, project);
  if (edition4) {
    general.warning("", "read as edition 4; add `edition = 5` to [general]");
  }
}

void read_stable_abi(const TomlFields& torch, bool edition4, const BuildToml& project,
                     TorchSection& section) {
  const toml::node* node = torch.node("stable-abi");
  if (!node) return;
  if (node->is_string() || edition4) {
    if (const std::optional<MajorMinor> abi = torch.version("stable-abi")) {
      for (BackendKind kind : project.backends) section.stable_abi[kind] = *abi;
    }
    return;
  }
  const std::optional<TomlFields> table = torch.table("stable-abi");
  if (!table) return;
  for (const std::string& name : table->keys()) {
    const std::optional<BackendKind> kind = backend(*table, name, name);
    const std::optional<MajorMinor> abi = table->version(name);
    if (kind && abi) section.stable_abi[*kind] = *abi;
  }
}

std::vector<std::string> pyext(const TomlFields& fields) {
  return fields.has("pyext") ? fields.strings("pyext") : std::vector<std::string>{"py", "pyi"};
}

/// Flags that the builder sets itself; the user's would fight them.
void lint_flags(const TomlFields& fields, std::string_view key,
                const std::vector<std::string>& flags) {
  for (const std::string& flag : flags) {
    const bool fights = flag.rfind("-std", 0) == 0 || flag.rfind("--std", 0) == 0 ||
                        flag == "-march=native" || flag == "-O0" || flag == "-g" ||
                        flag.rfind("--threads", 0) == 0;
    if (fights) fields.warning(key, fmt::format("{} fights the builder's own flags", flag));
    if (flag.rfind("-l", 0) == 0) {
      fields.warning(key, fmt::format("{} is moved to the link line", flag));
    }
  }
}

void read_frameworks(const TomlFields& root, bool edition4, BuildToml& project) {
  if (const std::optional<TomlFields> torch = root.table("torch")) {
    torch->only({"src", "include", "cxx-flags", "minver", "maxver", "pyext", "stable-abi"});
    TorchSection section;
    section.src = torch->strings("src");
    section.include = torch->strings("include");
    section.cxx_flags = torch->strings("cxx-flags");
    section.pyext = pyext(*torch);
    section.versions = range(*torch);
    read_stable_abi(*torch, edition4, project, section);
    lint_flags(*torch, "cxx-flags", section.cxx_flags);
    project.torch = std::move(section);
  }
  if (const std::optional<TomlFields> noarch = root.table("torch-noarch")) {
    noarch->only({"pyext", "cuda_capabilities", "rocm_archs", "cuda-capabilities", "rocm-archs"});
    NoarchSection section;
    section.pyext = pyext(*noarch);
    section.cuda_capabilities = noarch->strings(
        noarch->has("cuda-capabilities") ? "cuda-capabilities" : "cuda_capabilities");
    section.rocm_archs = noarch->strings(noarch->has("rocm-archs") ? "rocm-archs" : "rocm_archs");
    project.noarch = std::move(section);
  }
  if (const std::optional<TomlFields> tvm_ffi = root.table("tvm-ffi")) {
    tvm_ffi->only({"src", "include", "cxx-flags", "pyext"});
    TvmFfiSection section;
    section.src = tvm_ffi->required_strings("src");
    section.include = tvm_ffi->strings("include");
    section.cxx_flags = tvm_ffi->strings("cxx-flags");
    section.pyext = pyext(*tvm_ffi);
    lint_flags(*tvm_ffi, "cxx-flags", section.cxx_flags);
    project.tvm_ffi = std::move(section);
  }
  const int arch = (project.torch ? 1 : 0) + (project.tvm_ffi ? 1 : 0);
  if (arch == 0 && !project.noarch) {
    root.error("",
               "no framework table, expected [torch], [torch-noarch], [tvm-ffi], or [torch] "
               "with [tvm-ffi]");
  } else if (arch > 0 && project.noarch) {
    root.error("torch-noarch", "stands beside another framework table, expected one of them");
  }
}

void read_capabilities(const TomlFields& fields, Component& component) {
  if (!fields.has("cuda-capabilities")) return;
  component.cuda_capabilities = fields.strings("cuda-capabilities");
  for (const std::string& text : component.cuda_capabilities) {
    if (!CudaArch::parse(text)) {
      fields.warning(
          "cuda-capabilities",
          fmt::format("\"{}\" is not M.m with an optional a or f and +PTX; dropped", text));
    }
  }
}

void check_dependencies(const TomlFields& fields, const Component& component) {
  for (const std::string& dependency : component.depends) {
    if (std::find(kDependencies.begin(), kDependencies.end(), dependency) != kDependencies.end()) {
      continue;
    }
    fields.error("depends", fmt::format("unknown dependency \"{}\", expected one of: {}",
                                        dependency, fmt::join(kDependencies, ", ")));
  }
}

Component read_component(const TomlFields& fields, std::string name) {
  Component component;
  component.name = std::move(name);
  const std::string backend_text = fields.required_string("backend");
  const std::optional<BackendKind> kind =
      backend_text.empty() ? std::nullopt : backend(fields, "backend", backend_text);
  component.backend = kind.value_or(BackendKind::kCpu);
  switch (component.backend) {
    case BackendKind::kCpu:
    case BackendKind::kMetal:
      fields.only({"backend", "depends", "src", "include", "cxx-flags"});
      break;
    case BackendKind::kCuda:
      fields.only({"backend", "depends", "src", "include", "cxx-flags", "cuda-capabilities",
                   "cuda-flags", "cuda-minver"});
      break;
    case BackendKind::kRocm:
      fields.only({"backend", "depends", "src", "include", "cxx-flags", "rocm-archs", "hip-flags"});
      break;
    case BackendKind::kXpu:
      fields.only({"backend", "depends", "src", "include", "cxx-flags", "sycl-flags"});
      break;
    default:
      fields.error("backend", fmt::format("\"{}\" has no compiled components, expected one of: "
                                          "cpu, cuda, metal, rocm, xpu",
                                          backend_text));
  }
  component.depends = fields.required_strings("depends");
  component.src = fields.required_strings("src");
  component.include = fields.strings("include");
  component.cxx_flags = fields.strings("cxx-flags");
  component.cuda_flags = fields.strings("cuda-flags");
  component.cuda_minver = fields.version("cuda-minver");
  read_capabilities(fields, component);
  check_dependencies(fields, component);
  lint_flags(fields, "cxx-flags", component.cxx_flags);
  lint_flags(fields, "cuda-flags", component.cuda_flags);
  return component;
}

void read_components(const TomlFields& root, BuildToml& project) {
  const std::optional<TomlFields> kernels = root.table("kernel");
  if (!kernels) return;
  for (const std::string& name : kernels->keys()) {
    const std::optional<TomlFields> fields = kernels->table(name);
    if (!fields) continue;
    Component component = read_component(*fields, name);
    if (std::count(project.backends.begin(), project.backends.end(), component.backend) == 0) {
      fields->warning("backend", fmt::format("\"{}\" is not in general.backends; the component is "
                                             "ignored",
                                             backend_name(component.backend)));
      continue;
    }
    project.components.push_back(std::move(component));
  }
}

void check_op_and_args(const TomlFields& call) {
  call.required_string("op");
  if (!call.has("args")) call.error("args", "missing, expected an array of tables");
}

/// The form of a layer's calls; kernelize compares them with the ops
/// (docs/formats/layer-binding.md).
void check_call(const TomlFields& call) {
  call.only({"op", "args", "result", "reshape_like"});
  check_op_and_args(call);
  if (!call.has("result")) {
    call.error("result", "missing, expected \"out\", \"out.k\", an index, or a list of these");
  }
}

void check_backward(const TomlFields& backward) {
  backward.only({"call", "op", "args", "grads"});
  check_op_and_args(backward);
  if (const std::optional<TomlFields> call = backward.table("call")) check_call(*call);
  const std::optional<TomlFields> grads = backward.table("grads");
  if ((grads && grads->keys().empty()) || !backward.has("grads")) {
    backward.error("grads", "missing, expected a table of forward arguments and parameters");
  }
}

void read_layers(const TomlFields& root, BuildToml& project) {
  const std::optional<TomlFields> layers = root.table("layers");
  if (!layers) return;
  for (const std::string& name : layers->keys()) {
    const std::optional<TomlFields> layer = layers->table(name);
    if (!layer) continue;
    layer->only({"forward", "can_torch_compile", "when", "call", "backward"});
    layer->required_string("forward");
    if (const std::optional<TomlFields> call = layer->table("call")) {
      check_call(*call);
    } else if (!layer->has("call")) {
      layer->error("call", "missing, expected a table with op, args and result");
    }
    if (const std::optional<TomlFields> backward = layer->table("backward")) {
      check_backward(*backward);
    }
  }
  std::ostringstream json;
  json << toml::json_formatter(layers->toml());
  project.layers_json = json.str();
}

/// Keys that only editions 1 to 3 had; nothing for an edition that is read.
std::optional<std::string> old_edition(const toml::table& root) {
  const toml::node_view general = root["general"];
  if (general.is_table() && general.as_table()->contains("edition")) {
    const auto edition = general["edition"].as_integer();
    if (edition && edition->get() == 5) return std::nullopt;
    std::ostringstream found;
    found << "general.edition = " << toml::json_formatter(*general["edition"].node());
    return found.str();
  }
  if (root["torch"]["universal"]) return "edition 1 (torch.universal)";
  if (const toml::table* kernels = root["kernel"].as_table()) {
    for (const auto& [name, kernel] : *kernels) {
      const toml::table* table = kernel.as_table();
      if (table && table->contains("language")) {
        return fmt::format("edition 1 (kernel.{}.language)", name.str());
      }
    }
  }
  if (general["universal"]) return "edition 2 (general.universal)";
  if (general["cuda-minver"]) return "edition 2 (general.cuda-minver)";
  if (general["cuda-maxver"]) return "edition 2 (general.cuda-maxver)";
  if (!root.contains("torch") && !root.contains("torch-noarch") && !root.contains("tvm-ffi") &&
      general.is_table()) {
    return "edition 3 (no framework table and no general.edition)";
  }
  return std::nullopt;
}

toml::table parse_file(const std::filesystem::path& file) {
  const std::string text = read_file(file);
  try {
    return parse_toml(text, file.string());
  } catch (const TomlSyntaxError& error) {
    throw builder_errors::invalid_toml(file, static_cast<int>(error.line), error.what());
  }
}

}  // namespace

std::string Diagnostic::str() const {
  std::string text = file;
  if (line > 0) text += fmt::format(":{}", line);
  text += ": ";
  if (severity == Severity::kWarning) text += "warning: ";
  if (!key.empty()) text += key + ": ";
  return text + message;
}

std::string VersionRange::str() const {
  if (min && max) return fmt::format("{} to {}", min->str(), max->str());
  if (min) return ">= " + min->str();
  if (max) return "<= " + max->str();
  return "any";
}

bool Component::depends_on(std::string_view dependency) const {
  return std::find(depends.begin(), depends.end(), dependency) != depends.end();
}

ParsedBuildToml read_build_toml(const std::filesystem::path& directory) {
  const std::filesystem::path folder =
      std::filesystem::absolute(directory.empty() ? "." : directory).lexically_normal();
  const std::filesystem::path file = folder / "build.toml";
  const toml::table table = parse_file(file);
  if (const std::optional<std::string> found = old_edition(table)) {
    throw builder_errors::unsupported_edition(file, *found);
  }
  const bool edition4 = !table["general"]["edition"];
  ParsedBuildToml parsed;
  parsed.project.directory = folder;
  std::vector<Diagnostic> findings;
  const TomlFields root(table, "", file.string(), findings);
  root.only({"general", "torch", "torch-noarch", "tvm-ffi", "kernel", "layers"});
  if (const std::optional<TomlFields> general = root.table("general")) {
    read_general(*general, edition4, parsed.project);
  } else if (!root.has("general")) {
    root.error("general", "missing, expected a table");
  }
  read_frameworks(root, edition4, parsed.project);
  read_components(root, parsed.project);
  read_layers(root, parsed.project);
  const bool failed = std::any_of(findings.begin(), findings.end(), [](const Diagnostic& finding) {
    return finding.severity == Diagnostic::Severity::kError;
  });
  if (failed) throw builder_errors::invalid_build_toml(file, findings);
  parsed.warnings = std::move(findings);
  return parsed;
}

}  // namespace kernelhub::builder
