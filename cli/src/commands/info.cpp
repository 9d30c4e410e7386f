// SPDX-License-Identifier: Apache-2.0
#include "commands.h"
#include "exit_code.h"
#include "revision.h"

#include "kernelhub/core/atomic_file.h"
#include "kernelhub/core/metadata.h"
#include "kernelhub/core/variant.h"
#include "kernelhub/hub/client.h"
#include "kernelhub/hub/snapshot.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <set>

namespace kernelhub::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxMetadataBytes = 1u << 20;
constexpr const char* kMetadata = "metadata.json";
constexpr const char* kBundle = "metadata.json.sigstore";

/// One kernel as it is shown, wherever it lies.
struct Shown {
  std::string place_key, place;  // "repo_id" or "path"
  std::string revision;          // empty for a path
  Metadata metadata;             // of the first variant by name
  std::vector<std::string> variants;
  bool has_signature = false;
};

std::set<std::string> backends_of(const Shown& shown) {
  std::set<std::string> names;
  for (const std::string& name : shown.variants) {
    const auto variant = Variant::parse(name);
    if (!variant) continue;
    if (const auto* any = std::get_if<NoarchFramework>(&variant->framework())) {
      names.insert(any->name);
    } else {
      names.insert(std::string(backend_name(variant->backend()->kind)));
    }
  }
  return names;
}

Shown read_local(const fs::path& path) {
  Shown shown{"path", fs::absolute(path).lexically_normal().string(), {}, {}, {}, false};
  fs::path folder = fs::exists(path / "build") ? path / "build" : path;
  if (fs::exists(folder / kMetadata)) {
    shown.variants.push_back(fs::canonical(folder).filename().string());
    folder = fs::canonical(folder).parent_path();
  } else {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (fs::exists(entry.path() / kMetadata)) {
        shown.variants.push_back(entry.path().filename().string());
      }
    }
  }
  std::sort(shown.variants.begin(), shown.variants.end());
  if (shown.variants.empty()) {
    throw Error(
        ErrorCode::kNoCompatibleVariant,
        fmt::format("{} holds no built variant (a folder with {})", path.string(), kMetadata),
        "build it with 'kernelhub build'");
  }
  const fs::path first = folder / shown.variants.front();
  shown.metadata = Metadata::parse(read_file(first / kMetadata, kMaxMetadataBytes),
                                   (first / kMetadata).string());
  shown.has_signature = fs::exists(first / kBundle);
  return shown;
}

Shown read_hub(const InfoArgs& args) {
  const RepoId repo = RepoId::parse(args.target);
  hub::Client client(Config::from_env());
  const auto resolved = client.resolve(repo, spec_of(args.at, client, repo));
  Shown shown{"repo_id",
              repo.str(),
              resolved.pinned.commit.str(),
              {},
              client.list_variants(repo, resolved.pinned.commit),
              false};
  std::sort(shown.variants.begin(), shown.variants.end());
  for (const std::string& variant : shown.variants) {
    const std::string folder = "build/" + variant + "/";
    for (const hub::TreeFile& file : hub::list_variant_files(client, resolved.pinned, variant)) {
      if (file.path == folder + kBundle) shown.has_signature = true;
      if (file.path == folder + kMetadata) {
        shown.metadata = Metadata::parse(
            client.read_file(repo, resolved.pinned.commit, file, kMaxMetadataBytes), file.path);
      }
    }
    if (!shown.metadata.id.empty()) return shown;
  }
  throw Error(ErrorCode::kNoCompatibleVariant,
              fmt::format("{}@{} has no variant with {}", repo.str(), shown.revision, kMetadata),
              "list what it has with 'kernelhub versions " + repo.str() + "'");
}

nlohmann::ordered_json to_json(const Shown& shown) {
  const Metadata& metadata = shown.metadata;
  const auto or_null = [](const std::optional<std::string>& text) {
    return text ? nlohmann::ordered_json(*text) : nlohmann::ordered_json(nullptr);
  };
  nlohmann::ordered_json out;
  out[shown.place_key] = shown.place;
  if (!shown.revision.empty()) out["revision"] = shown.revision;
  out["name"] = metadata.name;
  out["version"] = metadata.version;
  out["kernels_minver"] = or_null(metadata.kernels_minver);
  out["license"] = metadata.license;
  out["upstream"] = or_null(metadata.upstream);
  out["source"] = or_null(metadata.source);
  out["python_depends"] = metadata.python_depends;
  out["backends"] = backends_of(shown);
  out["variants"] = shown.variants;
  out["signature"] = shown.has_signature;
  out["digest"] = metadata.digest
                      ? nlohmann::ordered_json(digest_algorithm_name(metadata.digest->algorithm))
                      : nlohmann::ordered_json(nullptr);
  return out;
}

void print(const Shown& shown) {
  const Metadata& metadata = shown.metadata;
  const auto row = [](const char* label, const std::string& value) {
    std::printf("%-24s %s\n", label, value.empty() ? "-" : value.c_str());
  };
  row(shown.place_key == "path" ? "Path:" : "Repository:", shown.place);
  if (!shown.revision.empty()) row("Revision:", shown.revision);
  row("Name:", metadata.name);
  row("Version:", std::to_string(metadata.version));
  row("Minimum kernels version:", metadata.kernels_minver.value_or(""));
  row("License:", metadata.license);
  row("Upstream:", metadata.upstream.value_or(""));
  row("Source:", metadata.source.value_or(""));
  row("Python dependencies:", fmt::format("{}", fmt::join(metadata.python_depends, ", ")));
  row("Backends:", fmt::format("{}", fmt::join(backends_of(shown), ", ")));
  row("Variants:", fmt::format("{}", fmt::join(shown.variants, ", ")));
  row("Signature:", shown.has_signature ? "present, not checked by this version" : "");
  row("Digest:", metadata.digest ? std::string(digest_algorithm_name(metadata.digest->algorithm))
                                 : std::string());
}

}  // namespace

int info(const InfoArgs& args) {
  const bool local = fs::is_directory(args.target);
  if (local && (args.at.version || args.at.revision)) {
    throw Error(ErrorCode::kInvalidArgument,
                "--version and --revision name a commit of a repository, and " + args.target +
                    " is a folder",
                "leave them out, or give a repository id");
  }
  const Shown shown = local ? read_local(args.target) : read_hub(args);
  if (args.json) {
    std::printf("%s\n", to_json(shown).dump(2).c_str());
  } else {
    print(shown);
  }
  return kOk;
}

}  // namespace kernelhub::cli
