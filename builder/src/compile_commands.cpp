// SPDX-License-Identifier: Apache-2.0
#include "compile_commands.h"

#include "builder_errors.h"
#include "cuda_archs.h"

#include "kernelhub/core/metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace kernelhub::builder {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kPlainPeakBytes = 512u << 20;
constexpr std::uint64_t kTorchPeakBytes = 1300u << 20;
constexpr std::uint64_t kCudaPeakBytes = 2800u << 20;

/// nvcc's intermediate files: kept so that their names, which reach the object, are fixed.
constexpr const char* kKeepSuffix = ".keep";

enum class Language { kNone, kC, kCxx, kCuda };

Language language_of(const std::string& source) {
  const std::string extension = fs::path(source).extension().string();
  if (extension == ".c") return Language::kC;
  if (extension == ".cpp" || extension == ".cc" || extension == ".cxx") return Language::kCxx;
  if (extension == ".cu") return Language::kCuda;
  return Language::kNone;
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

/// One set of sources with its flags: a component, or the bindings of the framework.
struct Unit {
  std::string name;
  const std::vector<std::string>* src = nullptr;
  const std::vector<std::string>* include = nullptr;
  const std::vector<std::string>* cxx_flags = nullptr;
  const Component* component = nullptr;  // nullptr: bindings
  /// The same object in the torch and the tvm-ffi variant: it sees neither framework.
  bool is_shared = false;
};

class CommandWriter {
 public:
  CommandWriter(const BuildToml& project, const VariantPlan& plan, const Toolchain& tools,
                const SourceTree& sources, const fs::path& stage, const CommandOptions& options)
      : project_(project),
        plan_(plan),
        tools_(tools),
        sources_(sources),
        stage_(stage),
        options_(options) {}

  CompileCommands write() && {
    if (options_.with_bindings) add_bindings();
    for (const Component* component : plan_.components) {
      add({component->name, &component->src, &component->include, &component->cxx_flags, component,
           project_.torch && project_.tvm_ffi && !component->depends_on("torch")});
    }
    std::stable_sort(
        commands_.groups.begin(), commands_.groups.end(),
        [](const ObjectGroup& a, const ObjectGroup& b) { return a.isa_level < b.isa_level; });
    return std::move(commands_);
  }

 private:
  void add_bindings() {
    if (plan_.is_torch()) {
      add({"torch", &project_.torch->src, &project_.torch->include, &project_.torch->cxx_flags});
    } else {
      add({"tvm-ffi", &project_.tvm_ffi->src, &project_.tvm_ffi->include,
           &project_.tvm_ffi->cxx_flags});
    }
  }

  void add(const Unit& unit) {
    ObjectGroup group{unit.name, isa_level(*unit.cxx_flags), {}};
    for (const std::string& source : *unit.src) {
      const Language language = language_of(source);
      if (language == Language::kNone) continue;
      const std::string path = sources_.project_path(source);
      CompileJob job;
      job.label = path;
      job.object =
          fmt::format("obj/{}/{}/{}.o", unit.is_shared ? "shared" : plan_.variant, unit.name, path);
      job.is_shared = unit.is_shared;
      if (language == Language::kCuda) job.scratch = job.object + kKeepSuffix;
      job.arguments = language == Language::kCuda ? cuda_command(unit, path, job.object)
                                                  : host_command(unit, language, path, job.object);
      const bool sees_torch = plan_.framework == FrameworkKind::kTorch && !unit.is_shared;
      job.memory_bytes = language == Language::kCuda ? kCudaPeakBytes
                         : sees_torch                ? kTorchPeakBytes
                                                     : kPlainPeakBytes;
      group.objects.push_back(job.object);
      commands_.jobs.push_back(std::move(job));
    }
    for (const std::string& flag : *unit.cxx_flags) {
      if (flag.rfind("-l", 0) == 0) commands_.libraries.push_back(flag);
      if (flag == "-fopenmp") commands_.openmp = true;
    }
    commands_.groups.push_back(std::move(group));
  }

  std::string standard(const Unit& unit) const {
    const bool cxx20 =
        plan_.is_torch() && !unit.is_shared && !(tools_.torch->version < MajorMinor{2, 12});
    return cxx20 ? "-std=c++20" : "-std=c++17";
  }

  /// Absolute folders never reach the object: their names become these.
  std::vector<std::string> prefix_maps() const {
    std::vector<std::string> flags{fmt::format("-ffile-prefix-map={}=.", stage_.string())};
    const auto map = [&](const fs::path& folder, std::string_view name) {
      if (!folder.empty()) {
        flags.push_back(fmt::format("-ffile-prefix-map={}={}", folder.string(), name));
      }
    };
    if (tools_.torch) map(tools_.torch->prefix / "include", "torch");
    if (tools_.tvm_ffi) map(tools_.tvm_ffi->prefix / "include", "tvm_ffi");
    if (tools_.nvcc) map(tools_.nvcc->home, "cuda");
    map(tools_.abi_include, "kernelhub");
    for (const auto& [name, folder] : tools_.dependencies) map(folder, name);
    return flags;
  }

  std::vector<std::string> host_flags(bool cxx) const {
    std::vector<std::string> flags{"-fPIC", "-fvisibility=hidden"};
    if (cxx) flags.insert(flags.end(), {"-fvisibility-inlines-hidden", "-fno-gnu-unique"});
    for (std::string& flag : prefix_maps()) flags.push_back(std::move(flag));
    return flags;
  }

  std::vector<std::string> defines(const Unit& unit) const {
    std::vector<std::string> flags{"-DNDEBUG"};
    if (plan_.backend == BackendKind::kCuda) {
      flags.insert(flags.end(), {"-DCUDA_KERNEL", "-DUSE_CUDA=1"});
    } else {
      flags.push_back("-DCPU_KERNEL");
    }
    if (unit.is_shared) return flags;
    if (plan_.is_torch()) {
      flags.push_back("-DTORCH_EXTENSION_NAME=" + plan_.id);
      flags.push_back("-DPy_LIMITED_API=0x03090000");
    } else {
      flags.push_back("-DTVM_FFI_EXTENSION_NAME=" + plan_.id);
      flags.push_back(fmt::format("-DKERNELHUB_PACKAGE_NAME=\"{}\"", project_.name));
      flags.push_back(fmt::format("-DKERNELHUB_PACKAGE_VERSION={}", project_.version));
      flags.push_back(
          fmt::format("-DKERNELHUB_PACKAGE_BACKEND=\"{}\"", backend_name(plan_.backend)));
    }
    if (plan_.stable_abi) {
      const std::uint64_t target = static_cast<std::uint64_t>(plan_.stable_abi->major) << 56 |
                                   static_cast<std::uint64_t>(plan_.stable_abi->minor) << 48;
      flags.push_back(fmt::format("-DTORCH_TARGET_VERSION=0x{:016x}", target));
    }
    if (plan_.framework == FrameworkKind::kTorch) flags.push_back("-D_GLIBCXX_USE_CXX11_ABI=1");
    return flags;
  }

  void add_include(std::vector<std::string>& flags, const std::string& relative) const {
    flags.push_back("-I" + (fs::path("src") / sources_.project_path(relative)).string());
  }

  std::vector<std::string> includes(const Unit& unit) const {
    std::vector<std::string> flags{"-Igen"};
    if (!unit.is_shared) add_include(flags, plan_.is_torch() ? "torch-ext" : "tvm-ffi-ext");
    add_include(flags, "csrc");
    for (const std::string& folder : *unit.include) add_include(flags, folder);
    const auto system = [&](const fs::path& folder) {
      if (!folder.empty()) flags.insert(flags.end(), {"-isystem", folder.string()});
    };
    if (unit.is_shared) {
      system(tools_.abi_include);
      system(tools_.dlpack_include);
    } else if (plan_.is_torch()) {
      system(tools_.torch->prefix / "include");
      system(tools_.torch->prefix / "include/torch/csrc/api/include");
      system(tools_.python_include);
    } else {
      system(tools_.abi_include);
      if (tools_.tvm_ffi)
        system(tools_.tvm_ffi->prefix / "include");
      else
        system(tools_.dlpack_include);
    }
    if (unit.component) add_dependencies(*unit.component, system);
    if (plan_.backend == BackendKind::kCuda) system(tools_.nvcc->home / "include");
    return flags;
  }

  template <class AddSystem>
  void add_dependencies(const Component& component, const AddSystem& system) const {
    for (const std::string& dependency : component.depends) {
      if (dependency == "torch") continue;
      const auto known = tools_.dependencies.find(dependency);
      if (known == tools_.dependencies.end()) {
        throw builder_errors::dependency_missing(dependency, component.name);
      }
      system(known->second);
    }
  }

  std::vector<std::string> host_command(const Unit& unit, Language language,
                                        const std::string& source,
                                        const std::string& object) const {
    const bool cxx = language == Language::kCxx;
    std::vector<std::string> command;
    if (!tools_.ccache.empty()) command.push_back(tools_.ccache.string());
    command.push_back(cxx ? tools_.cxx.string() : tools_.cc.string());
    append(command, {cxx ? standard(unit) : "-std=c11", "-O3"});
    append(command, host_flags(cxx));
    command.push_back("-frandom-seed=" + source);
    if (tools_.cpu == "x86_64") append(command, {"-include", "gen/glibc_versions.h"});
    append(command, defines(unit));
    append(command, includes(unit));
    for (const std::string& flag : *unit.cxx_flags) {
      if (flag.rfind("-l", 0) != 0) command.push_back(flag);
    }
    append(command, {"-c", "src/" + source, "-o", object});
    return command;
  }

  std::vector<std::string> cuda_command(const Unit& unit, const std::string& source,
                                        const std::string& object) const {
    std::vector<std::string> command{tools_.nvcc->program.string(), "-ccbin", tools_.cxx.string(),
                                     standard(unit), "-O3"};
    append(command, {"--expt-relaxed-constexpr", "--expt-extended-lambda", "-DENABLE_FP8"});
    for (const std::string& flag : host_flags(true)) append(command, {"-Xcompiler", flag});
    if (tools_.cpu == "x86_64") append(command, {"-Xcompiler", "-include,gen/glibc_versions.h"});
    const std::vector<CudaArch> archs = archs_of(unit);
    for (const CudaArch& arch : archs) append(command, gencode(arch));
    const int threads =
        std::max(1, std::min<int>(options_.parallelism, static_cast<int>(archs.size())));
    append(command, {"--threads", std::to_string(threads)});
    append(command, {"--keep", "--keep-dir", object + kKeepSuffix, "--frandom-seed", source});
    append(command, defines(unit));
    append(command, includes(unit));
    if (unit.component) append(command, unit.component->cuda_flags);
    append(command, {"-c", "src/" + source, "-o", object});
    return command;
  }

  /// The component's own archs; bindings get all of the variant's.
  std::vector<CudaArch> archs_of(const Unit& unit) const {
    const auto component =
        std::find(plan_.components.begin(), plan_.components.end(), unit.component);
    const std::vector<std::string>& chosen =
        component == plan_.components.end()
            ? plan_.archs
            : plan_.component_archs[static_cast<std::size_t>(component - plan_.components.begin())];
    std::vector<CudaArch> archs;
    for (const std::string& arch : chosen) archs.push_back(*CudaArch::parse(arch));
    std::sort(archs.begin(), archs.end(),
              [](const CudaArch& a, const CudaArch& b) { return a.capability < b.capability; });
    return archs;
  }

  static std::vector<std::string> gencode(const CudaArch& arch) {
    std::vector<std::string> flags{"-gencode",
                                   fmt::format("arch=compute_{0},code=sm_{0}", arch.digits())};
    if (arch.ptx) {
      flags.insert(flags.end(),
                   {"-gencode", fmt::format("arch=compute_{0},code=compute_{0}", arch.digits())});
    }
    return flags;
  }

  static void append(std::vector<std::string>& command, const std::vector<std::string>& more) {
    command.insert(command.end(), more.begin(), more.end());
  }

  const BuildToml& project_;
  const VariantPlan& plan_;
  const Toolchain& tools_;
  const SourceTree& sources_;
  const fs::path& stage_;
  CommandOptions options_;
  CompileCommands commands_;
};

}  // namespace

int isa_level(const std::vector<std::string>& flags) {
  constexpr std::array<std::string_view, 5> kAmx = {"-mamx", "=sapphirerapids", "=graniterapids",
                                                    "=emeraldrapids", "=diamondrapids"};
  constexpr std::array<std::string_view, 7> kAvx512 = {
      "-mavx512",   "=skylake-avx512", "=icelake", "=cascadelake",
      "=x86-64-v4", "=znver4",         "=znver5"};
  constexpr std::array<std::string_view, 9> kAvx2 = {"-mavx",      "-mfma",      "-mf16c",
                                                     "=haswell",   "=broadwell", "=skylake",
                                                     "=x86-64-v3", "=znver",     "=alderlake"};
  int level = 0;
  for (const std::string& flag : flags) {
    const auto names = [&flag](const auto& parts) {
      return std::any_of(parts.begin(), parts.end(),
                         [&flag](std::string_view part) { return contains(flag, part); });
    };
    level = std::max(level, names(kAmx) ? 3 : names(kAvx512) ? 2 : names(kAvx2) ? 1 : 0);
  }
  return level;
}

CompileCommands compile_commands(const BuildToml& project, const VariantPlan& plan,
                                 const Toolchain& tools, const SourceTree& sources,
                                 const fs::path& stage, const CommandOptions& options) {
  return CommandWriter(project, plan, tools, sources, stage, options).write();
}

}  // namespace kernelhub::builder
