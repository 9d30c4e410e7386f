// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/builder/build.h"

#include "builder_errors.h"
#include "compile_commands.h"
#include "git_identity.h"
#include "import_test.h"
#include "link.h"
#include "source_tree.h"
#include "stage.h"

#include "kernelhub/builder/card.h"
#include "kernelhub/builder/check.h"
#include "kernelhub/builder/compile.h"
#include "kernelhub/builder/package_writer.h"
#include "kernelhub/builder/version.h"
#include "kernelhub/core/atomic_file.h"
#include "kernelhub/trust/verifier.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <unistd.h>

namespace kernelhub::builder {
namespace {

namespace fs = std::filesystem;

/// All that the build of one variant needs to know of the project.
struct Project {
  BuildToml toml;
  SourceTree sources;
  Toolchain tools;
  PackageFacts facts;
};

std::string checked_unique_id(const std::string& text) {
  const bool valid = !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
  });
  if (!valid) throw builder_errors::bad_option("--unique-id", text, "letters, digits and _");
  return text;
}

PackageFacts project_facts(const BuildOptions& options, const BuildToml& toml,
                           const SourceTree& sources) {
  PackageFacts facts;
  const std::optional<GitIdentity> git = read_git_identity(toml.directory, sources);
  facts.uid = options.unique_id ? checked_unique_id(*options.unique_id) : unique_id(git, sources);
  facts.source_hash = sources.source_hash;
  if (git) {
    facts.provenance = GitProvenance{git->commit, git->dirty};
    if (!git->dirty) facts.time = git->commit_time;
  }
  return facts;
}

std::map<std::string, std::string> tool_versions(const VariantPlan& plan, const Toolchain& tools) {
  std::map<std::string, std::string> versions;
  if (plan.framework == FrameworkKind::kNoarch) return versions;
  versions["g++"] = tools.cxx_version;
  if (plan.backend == BackendKind::kCuda) versions["nvcc"] = tools.nvcc->full_version;
  if (plan.is_torch()) versions["torch"] = tools.torch->full_version;
  if (plan.framework == FrameworkKind::kTvmFfi && tools.tvm_ffi) {
    versions["tvm-ffi"] = tools.tvm_ffi->full_version;
  }
  return versions;
}

/// True when build/<variant> holds exactly what a build would make.
bool is_up_to_date(const VariantPlan& plan, const BuildToml& toml, const PackageFacts& facts,
                   const fs::path& directory) {
  if (!fs::is_regular_file(directory / "metadata.json")) return false;
  try {
    const std::string bytes = read_file(directory / "metadata.json");
    Metadata found = Metadata::parse(bytes, (directory / "metadata.json").string());
    if (!found.digest) return false;
    const VariantDigest digest = trust::compute_variant_digest(directory, DigestAlgorithm::kSha256);
    if (!trust::compare_variant_digest(digest, *found.digest).empty()) return false;
    Metadata wanted = make_metadata(toml, plan, facts);
    wanted.digest = found.digest;
    // A later commit that leaves the project alone is the same build.
    wanted.kernel_provenance = found.kernel_provenance;
    return wanted.to_json() == bytes &&
           found.dirty() == (facts.provenance && facts.provenance->dirty);
  } catch (const Error&) {
    return false;  // damaged: built again
  }
}

class VariantBuild {
 public:
  VariantBuild(const Project& project, const VariantPlan& plan, const BuildOptions& options,
               CurrentStage& stage)
      : project_(project), plan_(plan), options_(options), stage_(stage), facts_(project.facts) {
    facts_.toolchain = tool_versions(plan, project.tools);
  }

  VariantOutcome run() {
    VariantOutcome outcome;
    outcome.variant = plan_.variant;
    outcome.id = plan_.id;
    outcome.archs = plan_.archs;
    const fs::path target = project_.toml.directory / "build" / plan_.variant;
    if (options_.dry_run) return outcome;
    const auto start = std::chrono::steady_clock::now();
    try {
      if (!options_.filter.components.empty()) {
        compile(stage_.of(plan_));
        outcome.status = VariantOutcome::Status::kCompiled;
      } else if (!options_.force && is_up_to_date(plan_, project_.toml, facts_, target)) {
        outcome.status = VariantOutcome::Status::kUpToDate;
        outcome.directory = target;
      } else {
        make(target);
        outcome.status = VariantOutcome::Status::kBuilt;
        outcome.directory = target;
      }
    } catch (const Error& error) {
      if (error.code() == ErrorCode::kCancelled) throw;
      outcome.status = VariantOutcome::Status::kFailed;
      outcome.reason = error.what();
      outcome.hint = error.hint();
    }
    outcome.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return outcome;
  }

 private:
  void make(const fs::path& target) {
    Stage& stage = stage_.of(plan_);
    if (plan_.framework != FrameworkKind::kNoarch) {
      const CompileCommands commands = compile(stage);
      announce("link " + plan_.binary(),
               [&] { link_variant(plan_, project_.tools, commands, stage.directory()); });
    }
    const UnfinishedFolder folder(target);
    write_package(project_.toml, plan_, facts_, stage.directory() / "out" / plan_.binary(),
                  folder.path());
    verify(folder.path(), stage.directory());
    publish_directory(folder.path(), target);
  }

  CompileCommands compile(Stage& stage) {
    const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    CompileCommands commands = compile_commands(
        project_.toml, plan_, project_.tools, project_.sources, stage.directory(),
        {options_.jobs > 0 ? options_.jobs : cores, options_.filter.components.empty()});
    stage.compile(plan_, commands.jobs, options_.jobs, options_.progress);
    return commands;
  }

  void verify(const fs::path& directory, const fs::path& stage) {
    announce("check " + plan_.variant, [&] {
      CheckOptions options;
      options.strict = options_.strict;
      options.variant = plan_.variant;
      const std::vector<CheckFinding> findings = check_variant(directory, options);
      if (has_errors(findings)) throw builder_errors::check_failed(plan_.variant, findings);
    });
    announce("import " + plan_.variant,
             [&] { import_test(plan_, project_.tools, directory, stage / "obj" / "import.log"); });
  }

  template <class Work>
  void announce(const std::string& what, const Work& work) {
    if (options_.progress) options_.progress->started(what, 0);
    work();
    if (options_.progress) options_.progress->finished(what);
  }

  /// A hidden folder beside the target, removed unless it was published.
  class UnfinishedFolder {
   public:
    explicit UnfinishedFolder(const fs::path& target)
        : path_(target.parent_path() /
                fmt::format(".{}.{}", target.filename().string(), getpid())) {
      fs::remove_all(path_);
      fs::create_directories(path_);
    }
    UnfinishedFolder(const UnfinishedFolder&) = delete;
    UnfinishedFolder& operator=(const UnfinishedFolder&) = delete;
    ~UnfinishedFolder() {
      std::error_code ignored;
      fs::remove_all(path_, ignored);
    }
    const fs::path& path() const noexcept { return path_; }

   private:
    fs::path path_;
  };

  const Project& project_;
  const VariantPlan& plan_;
  const BuildOptions& options_;
  CurrentStage& stage_;
  PackageFacts facts_;
};

void reject_warnings(const BuildOptions& options, const std::vector<Diagnostic>& diagnostics,
                     const BuildToml& toml) {
  if (!options.strict || diagnostics.empty()) return;
  std::vector<Diagnostic> errors = diagnostics;
  for (Diagnostic& error : errors) error.severity = Diagnostic::Severity::kError;
  throw builder_errors::invalid_build_toml(toml.directory / "build.toml", errors);
}

}  // namespace

std::string_view status_name(VariantOutcome::Status status) noexcept {
  switch (status) {
    case VariantOutcome::Status::kPlanned:
      return "planned";
    case VariantOutcome::Status::kBuilt:
      return "built";
    case VariantOutcome::Status::kCompiled:
      return "compiled";
    case VariantOutcome::Status::kUpToDate:
      return "up-to-date";
    case VariantOutcome::Status::kFailed:
      return "failed";
    case VariantOutcome::Status::kSkipped:
      return "skipped";
  }
  return "unknown";
}

bool BuildReport::ok() const noexcept {
  return std::none_of(variants.begin(), variants.end(), [](const VariantOutcome& outcome) {
    return outcome.status == VariantOutcome::Status::kFailed;
  });
}

BuildReport build_project(const BuildOptions& options) {
  ParsedBuildToml parsed = read_build_toml(options.directory);
  Project project{std::move(parsed.project), {}, {}, {}};
  project.sources = collect_sources(project.toml, find_work_tree(project.toml.directory));
  BuildReport report;
  report.directory = project.toml.directory;
  report.name = project.toml.name;
  report.diagnostics = std::move(parsed.warnings);
  for (Diagnostic& finding : lint_includes(project.toml, project.sources)) {
    report.diagnostics.push_back(std::move(finding));
  }
  reject_warnings(options, report.diagnostics, project.toml);
  project.tools = detect_toolchain(options.toolchain);
  project.facts = project_facts(options, project.toml, project.sources);

  const BuildPlan plan = plan_build(project.toml, project.tools, project.facts.uid, options.filter);
  if (plan.variants.empty()) {
    std::vector<std::string> reasons;
    for (const SkippedVariant& skipped : plan.skipped) {
      reasons.push_back(skipped.what + ": " + skipped.reason);
    }
    throw builder_errors::nothing_to_build(project.toml.directory, reasons);
  }
  CurrentStage stage(project.sources);
  for (const VariantPlan& variant : plan.variants) {
    report.variants.push_back(VariantBuild(project, variant, options, stage).run());
  }
  const bool packages = !options.dry_run && options.filter.components.empty() && report.ok();
  for (const SkippedVariant& skipped : plan.skipped) {
    VariantOutcome outcome;
    outcome.variant = skipped.what;
    outcome.status = VariantOutcome::Status::kSkipped;
    outcome.reason = skipped.reason;
    report.variants.push_back(std::move(outcome));
  }
  if (packages && !write_card(project.toml, project.tools)) {
    report.diagnostics.push_back({Diagnostic::Severity::kWarning,
                                  (project.toml.directory / "CARD.md").string(), 0, "",
                                  "not rendered, no Python with jinja2 (--python)"});
  }
  return report;
}

}  // namespace kernelhub::builder
