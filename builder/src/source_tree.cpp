// SPDX-License-Identifier: Apache-2.0
#include "source_tree.h"

#include "builder_errors.h"
#include "generated_files.h"

#include "kernelhub/core/atomic_file.h"
#include "kernelhub/core/digest.h"
#include "kernelhub/core/safe_path.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <sstream>

namespace kernelhub::builder {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxSourceBytes = 64u << 20;

bool is_below(const fs::path& path, const fs::path& folder) {
  const fs::path relative = path.lexically_relative(folder);
  return !relative.empty() && *relative.begin() != "..";
}

fs::path parent_of_all(fs::path folder, const std::set<fs::path>& files) {
  for (const fs::path& file : files) {
    while (!is_below(file, folder)) folder = folder.parent_path();
  }
  return folder;
}

bool has_extension(const fs::path& file, const std::vector<std::string>& extensions) {
  const std::string extension = file.extension().string();
  if (extension.empty()) return false;
  return std::find(extensions.begin(), extensions.end(), extension.substr(1)) != extensions.end();
}

void add_packaged_files(const fs::path& folder, const std::vector<std::string>& extensions,
                        std::set<fs::path>& files) {
  if (!fs::is_directory(folder)) return;
  for (auto entry = fs::recursive_directory_iterator(folder);
       entry != fs::recursive_directory_iterator(); ++entry) {
    if (entry->is_directory()) {
      if (entry->is_symlink()) {
        throw builder_errors::unsafe_source(entry->path(), "it is a link to a folder");
      }
      if (entry->path().filename() == "__pycache__") entry.disable_recursion_pending();
      continue;
    }
    if (has_extension(entry->path(), extensions)) files.insert(entry->path());
  }
}

void add_listed(const BuildToml& project, const std::vector<std::string>& listed,
                std::string_view key, const fs::path& limit, std::set<fs::path>& files) {
  for (const std::string& entry : listed) {
    const fs::path file = (project.directory / entry).lexically_normal();
    if (!is_below(file, limit)) throw builder_errors::source_outside(file, limit);
    const fs::file_status status = fs::status(file);
    if (!fs::exists(status)) throw builder_errors::missing_source(file, key);
    if (!fs::is_regular_file(status)) {
      throw builder_errors::unsafe_source(file, "it is not a regular file");
    }
    files.insert(file);
  }
}

std::set<fs::path> listed_files(const BuildToml& project, const fs::path& limit) {
  std::set<fs::path> files{project.directory / "build.toml"};
  if (project.torch) {
    add_listed(project, project.torch->src, "torch.src", limit, files);
    add_packaged_files(project.directory / "torch-ext", project.torch->pyext, files);
  }
  if (project.noarch) {
    add_packaged_files(project.directory / "torch-ext", project.noarch->pyext, files);
  }
  if (project.tvm_ffi) {
    add_listed(project, project.tvm_ffi->src, "tvm-ffi.src", limit, files);
    add_packaged_files(project.directory / "tvm-ffi-ext", project.tvm_ffi->pyext, files);
  }
  for (const Component& component : project.components) {
    add_listed(project, component.src, "kernel." + component.name + ".src", limit, files);
  }
  return files;
}

std::string hash_of(const std::vector<SourceTree::File>& files) {
  Hasher hasher(DigestAlgorithm::kSha256);
  hasher.update(fmt::format("templates {}\n", kTemplatesVersion));
  for (const SourceTree::File& file : files) {
    hasher.update(fmt::format("{}  {}\n", file.sha256, file.path));
  }
  return hasher.finish().hex();
}

/// Text between the quotes of an #include "..." line, "" for any other line.
std::string quoted_include(const std::string& line) {
  std::size_t at = line.find_first_not_of(" \t");
  if (at == std::string::npos || line[at] != '#') return {};
  at = line.find_first_not_of(" \t", at + 1);
  if (at == std::string::npos || line.compare(at, 7, "include") != 0) return {};
  const std::size_t open = line.find_first_not_of(" \t", at + 7);
  if (open == std::string::npos || line[open] != '"') return {};
  const std::size_t close = line.find('"', open + 1);
  return close == std::string::npos ? std::string() : line.substr(open + 1, close - open - 1);
}

}  // namespace

std::string SourceTree::project_path(const std::string& relative) const {
  return (fs::path(project) / relative).lexically_normal().string();
}

bool SourceTree::has(const std::string& path_below_root) const {
  const auto at = std::lower_bound(
      files.begin(), files.end(), path_below_root,
      [](const File& file, const std::string& wanted) { return file.path < wanted; });
  return at != files.end() && at->path == path_below_root;
}

SourceTree collect_sources(const BuildToml& project, const fs::path& work_tree) {
  const fs::path limit =
      work_tree.empty() ? project.directory.parent_path() : work_tree.lexically_normal();
  const std::set<fs::path> files = listed_files(project, limit);
  SourceTree tree;
  tree.root = parent_of_all(project.directory, files);
  if (tree.root != project.directory) {
    tree.project = project.directory.lexically_relative(tree.root).string();
  }
  for (const fs::path& file : files) {
    const std::string path = file.lexically_relative(tree.root).string();
    SafeRelPath::parse(path, (project.directory / "build.toml").string());
    const std::string content = read_file(file, kMaxSourceBytes);
    tree.files.push_back({path, file, digest_of(DigestAlgorithm::kSha256, content).hex(),
                          is_below(file, project.directory)});
  }
  std::sort(tree.files.begin(), tree.files.end(),
            [](const SourceTree::File& a, const SourceTree::File& b) { return a.path < b.path; });
  tree.source_hash = hash_of(tree.files);
  return tree;
}

std::vector<Diagnostic> lint_includes(const BuildToml& project, const SourceTree& sources) {
  std::vector<Diagnostic> findings;
  for (const SourceTree::File& file : sources.files) {
    const std::string extension = fs::path(file.path).extension().string();
    if (extension == ".py" || extension == ".toml") continue;
    std::istringstream lines(read_file(file.absolute, kMaxSourceBytes));
    std::string line;
    for (int number = 1; std::getline(lines, line); ++number) {
      const std::string name = quoted_include(line);
      if (name.empty()) continue;
      const fs::path target = (file.absolute.parent_path() / name).lexically_normal();
      if (!fs::is_regular_file(target)) continue;
      if (sources.has(target.lexically_relative(sources.root).string())) continue;
      findings.push_back({Diagnostic::Severity::kWarning, file.absolute.string(), number, "",
                          fmt::format("includes \"{}\", which no src of {} lists", name,
                                      (project.directory / "build.toml").string())});
    }
  }
  return findings;
}

}  // namespace kernelhub::builder
