// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/builder/package_writer.h"

#include "builder_errors.h"
#include "generated_files.h"

#include "kernelhub/builder/version.h"
#include "kernelhub/core/atomic_file.h"
#include "kernelhub/core/safe_path.h"
#include "kernelhub/trust/verifier.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

namespace kernelhub::builder {
namespace {

namespace fs = std::filesystem;

/// Oldest peer client that honours kernel-depends (package spec 3).
constexpr const char* kKernelDependsMinver = "0.17.2";

template <class T>
std::vector<T> with_backend(std::vector<T> general,
                            const std::map<BackendKind, std::vector<T>>& by_backend,
                            BackendKind kind) {
  const auto more = by_backend.find(kind);
  if (more != by_backend.end()) {
    general.insert(general.end(), more->second.begin(), more->second.end());
  }
  return general;
}

const std::vector<std::string>& packaged_extensions(const BuildToml& project,
                                                    const VariantPlan& plan) {
  if (plan.framework == FrameworkKind::kTvmFfi) return project.tvm_ffi->pyext;
  return project.torch ? project.torch->pyext : project.noarch->pyext;
}

void copy_python_files(const BuildToml& project, const VariantPlan& plan, const fs::path& target) {
  const char* folder = plan.framework == FrameworkKind::kTvmFfi ? "tvm-ffi-ext" : "torch-ext";
  const fs::path source = project.directory / folder / python_name(project.name);
  if (plan.framework == FrameworkKind::kTvmFfi && !fs::exists(source)) {
    write_file_atomically(target / "__init__.py", tvm_ffi_init_module());
    return;
  }
  if (!fs::is_regular_file(source / "__init__.py")) {
    throw builder_errors::missing_source(source / "__init__.py", "the package layout");
  }
  const std::vector<std::string>& extensions = packaged_extensions(project, plan);
  for (auto entry = fs::recursive_directory_iterator(source);
       entry != fs::recursive_directory_iterator(); ++entry) {
    const fs::path relative = entry->path().lexically_relative(source);
    if (entry->is_directory()) {
      if (relative.filename() == "__pycache__") entry.disable_recursion_pending();
      continue;
    }
    const std::string extension = entry->path().extension().string();
    const bool packaged = !extension.empty() && std::find(extensions.begin(), extensions.end(),
                                                          extension.substr(1)) != extensions.end();
    if (!packaged) continue;
    if (extension == ".pyc") throw builder_errors::unsafe_source(entry->path(), "it is bytecode");
    SafeRelPath::parse(relative.string(), entry->path().string());
    fs::create_directories((target / relative).parent_path());
    fs::copy_file(entry->path(), target / relative);
    fs::permissions(target / relative, static_cast<fs::perms>(0644));
  }
}

std::string ops_module(const BuildToml& project, const VariantPlan& plan,
                       const PackageFacts& facts) {
  if (plan.is_torch()) return torch_ops_module(plan.id);
  if (plan.framework == FrameworkKind::kTvmFfi) return tvm_ffi_ops_module(plan.id);
  return noarch_ops_module(python_name(project.name), facts.uid);
}

void set_times(const fs::path& folder, std::int64_t time) {
  const timespec times[2] = {{time, 0}, {time, 0}};
  const auto set = [&](const fs::path& path) {
    if (utimensat(AT_FDCWD, path.c_str(), times, 0) != 0) {
      throw builder_errors::system_call_failed("utimensat", path, errno);
    }
  };
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) set(entry);
  set(folder);
}

}  // namespace

Metadata make_metadata(const BuildToml& project, const VariantPlan& plan,
                       const PackageFacts& facts) {
  Metadata metadata;
  metadata.name = project.name;
  metadata.id = plan.id;
  metadata.version = project.version;
  metadata.license = project.license;
  metadata.upstream = project.upstream;
  metadata.source = project.source;
  metadata.python_depends =
      with_backend(project.python_depends, project.backend_python_depends, plan.backend);
  metadata.kernel_depends =
      with_backend(project.kernel_depends, project.backend_kernel_depends, plan.backend);
  if (!metadata.kernel_depends.empty()) metadata.kernels_minver = kKernelDependsMinver;
  metadata.backend = plan.backend;
  metadata.archs = plan.archs;
  metadata.builder_version = kBuilderVersion;
  metadata.kernel_provenance = facts.provenance;
  KernelhubMetadata own;
  if (project.hub_repo) own.repo_id = project.hub_repo->str();
  own.variant = plan.variant;
  own.source_hash = facts.source_hash;
  own.toolchain = facts.toolchain;
  own.layers_json = project.layers_json;
  metadata.kernelhub = std::move(own);
  return metadata;
}

void write_package(const BuildToml& project, const VariantPlan& plan, const PackageFacts& facts,
                   const fs::path& binary, const fs::path& target) {
  copy_python_files(project, plan, target);
  write_file_atomically(target / "_ops.py", ops_module(project, plan, facts));
  if (plan.framework != FrameworkKind::kNoarch) {
    fs::copy_file(binary, target / plan.binary());
    fs::permissions(target / plan.binary(), static_cast<fs::perms>(0755));
  }
  Metadata metadata = make_metadata(project, plan, facts);
  metadata.digest = trust::compute_variant_digest(target, DigestAlgorithm::kSha256);
  write_file_atomically(target / "metadata.json", metadata.to_json());
  set_times(target, facts.time);
}

void publish_directory(const fs::path& from, const fs::path& to) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return;
  if (errno != EEXIST) throw builder_errors::system_call_failed("rename", to, errno);
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) != 0) {
    throw builder_errors::system_call_failed("rename", to, errno);
  }
  fs::remove_all(from);
}

}  // namespace kernelhub::builder
