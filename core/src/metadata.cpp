// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/metadata.h"

#include "kernelhub/core/core_errors.h"
#include "kernelhub/core/json_access.h"
#include "kernelhub/core/safe_path.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <set>

namespace kernelhub {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t kMaxDigestFiles = 20000;
constexpr std::string_view kLower = "abcdefghijklmnopqrstuvwxyz";
constexpr std::string_view kDigits = "0123456789";

bool is_one_of(char c, std::string_view alphabet) { return alphabet.find(c) != alphabet.npos; }

std::int64_t read_version(const JsonObject& object) {
  return static_cast<std::int64_t>(object.unsigned_integer("version"));
}

bool is_three_part_version(std::string_view text) {
  int parts = 1;
  std::size_t digits = 0;
  for (const char c : text) {
    if (is_one_of(c, kDigits)) {
      ++digits;
    } else if (c == '.' && digits > 0) {
      ++parts;
      digits = 0;
    } else {
      return false;
    }
  }
  return parts == 3 && digits > 0;
}

bool is_git_url(std::string_view text) {
  constexpr std::array<std::string_view, 7> kSchemes = {
      "http://", "https://", "git://", "ssh://", "git+ssh://", "git+http://", "git+https://"};
  if (text.find_first_of(" \t\r\n") != std::string_view::npos) return false;
  for (const std::string_view scheme : kSchemes) {
    if (text.substr(0, scheme.size()) == scheme) return text.size() > scheme.size();
  }
  if (text.find("://") != std::string_view::npos) return false;
  // user@host:path
  const std::size_t at = text.find('@');
  const std::size_t colon = text.find(':');
  return at != std::string_view::npos && colon != std::string_view::npos && at > 0 &&
         colon > at + 1 && colon + 1 < text.size();
}

std::optional<std::string> read_git_url(const JsonObject& root, std::string_view key) {
  auto url = root.optional_string(key);
  if (url && !is_git_url(*url)) {
    root.fail(key, "a git URL (http, https, git, ssh or user@host:path)", *url);
  }
  return url;
}

RepoId read_repo(const JsonObject& object, std::string_view key) {
  const std::string text = object.string(key);
  try {
    return RepoId::parse(text);
  } catch (const Error&) {
    object.fail(key, "a repo id", text);
  }
}

Metadata::Dependency read_dependency(const JsonObject& item) {
  item.only({"repo-id", "version", "revision"});
  RepoId repo = read_repo(item, "repo-id");
  const bool has_version = item.has("version");
  if (has_version == item.has("revision")) {
    item.fail("", "exactly one of version and revision", has_version ? "both" : "neither");
  }
  if (has_version) return {std::move(repo), KernelSpec::of_version(read_version(item))};
  try {
    return {std::move(repo), KernelSpec::of_revision(item.string("revision"))};
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInvalidRevision) throw;
    item.fail("revision", "a git revision", item.string("revision"));
  }
}

void read_backend(const JsonObject& backend, Metadata& metadata) {
  const std::string type = backend.string("type");
  const auto kind = parse_backend_name(type);
  if (!kind) backend.fail("type", "cpu, cuda, rocm, xpu, metal, cann, neuron or tpu", type);
  metadata.backend = *kind;
  metadata.archs = backend.strings("archs");
}

VariantDigest read_digest(const JsonObject& object) {
  const std::string algorithm = object.string("algorithm");
  if (algorithm != "sha256" && algorithm != "sha512") {
    object.fail("algorithm", "sha256 or sha512", algorithm);
  }
  VariantDigest digest;
  digest.algorithm = parse_digest_algorithm(algorithm);
  const JsonObject files = object.object("files");
  if (files.json().size() > kMaxDigestFiles) {
    object.fail("files", fmt::format("at most {} files", kMaxDigestFiles),
                std::to_string(files.json().size()));
  }
  for (const std::string& path : files.keys()) {
    const SafeRelPath safe = SafeRelPath::parse(path, files.path());
    const std::string value = files.string(path);
    try {
      digest.files.emplace(safe.str(), Digest::from_base64(digest.algorithm, value));
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kInvalidDigest) throw;
      files.fail(path, fmt::format("padded base64 of a {} value", algorithm), value);
    }
  }
  return digest;
}

/// `commit` and `dirty`, both or neither; older builders wrote `sha` for `commit`.
std::optional<GitProvenance> read_git(const JsonObject& object) {
  if (object.has("commit") && object.has("sha")) {
    object.fail("sha", "only one of commit and sha", "both");
  }
  const std::string_view key = object.has("sha") ? "sha" : "commit";
  const auto commit = object.optional_string(key);
  const auto dirty = object.optional_boolean("dirty");
  if (commit.has_value() != dirty.has_value()) {
    object.fail(commit ? "dirty" : key, "commit and dirty together", "only one of them");
  }
  if (!commit) return std::nullopt;
  const bool is_hex = commit->find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
  if (!is_hex || (commit->size() != 40 && commit->size() != 64)) {
    object.fail(key, "40 or 64 hex digits", *commit);
  }
  std::string lower = *commit;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c; });
  return GitProvenance{std::move(lower), *dirty};
}

void read_provenance(const JsonObject& provenance, Metadata& metadata) {
  const JsonObject builder = provenance.object("kernel-builder");
  metadata.builder_version = builder.string("version");
  metadata.builder_provenance = read_git(builder);
  if (const auto kernel = provenance.optional_object("kernel")) {
    metadata.kernel_provenance = read_git(*kernel);
    if (!metadata.kernel_provenance) kernel->fail("commit", "a commit", "nothing");
  }
}

KernelhubMetadata read_kernelhub(const JsonObject& object) {
  KernelhubMetadata ours;
  ours.schema = static_cast<std::int64_t>(object.unsigned_integer("schema"));
  if (ours.schema != 1) object.fail("schema", "1", std::to_string(ours.schema));
  if (object.has("repo-id")) ours.repo_id = read_repo(object, "repo-id").str();
  ours.variant = object.optional_string("variant").value_or("");
  ours.source_hash = object.optional_string("source-hash").value_or("");
  if (const auto toolchain = object.optional_object("toolchain")) {
    for (const std::string& tool : toolchain->keys()) {
      ours.toolchain.emplace(tool, toolchain->string(tool));
    }
  }
  if (const auto layers = object.optional_object("layers"))
    ours.layers_json = layers->json().dump();
  return ours;
}

Metadata read_metadata(const JsonObject& root) {
  Metadata metadata;
  metadata.name = root.string("name");
  if (!is_kernel_name(metadata.name)) {
    root.fail("name", "lower-case letters, digits and '-', starting with a letter", metadata.name);
  }
  metadata.id = root.string("id");
  if (!is_package_id(metadata.id)) {
    root.fail("id", "an identifier of at most 128 characters", metadata.id);
  }
  metadata.version = read_version(root);
  metadata.kernels_minver = root.optional_string("kernels-minver");
  if (metadata.kernels_minver && !is_three_part_version(*metadata.kernels_minver)) {
    root.fail("kernels-minver", "three numbers such as 0.17.2", *metadata.kernels_minver);
  }
  metadata.license = root.string("license");
  metadata.upstream = read_git_url(root, "upstream");
  metadata.source = read_git_url(root, "source");
  if (!root.has("python-depends")) root.fail("python-depends", "an array of names", "nothing");
  metadata.python_depends = root.strings("python-depends");
  if (root.json().contains("kernel-depends") && !root.has("kernel-depends")) {
    root.fail("kernel-depends", "an array of objects", "null");
  }
  for (const JsonObject& item : root.objects("kernel-depends")) {
    metadata.kernel_depends.push_back(read_dependency(item));
  }
  read_backend(root.object("backend"), metadata);
  if (const auto digest = root.optional_object("digest")) metadata.digest = read_digest(*digest);
  if (const auto provenance = root.optional_object("provenance")) {
    read_provenance(*provenance, metadata);
  }
  if (const auto ours = root.optional_object("kernelhub")) {
    metadata.kernelhub = read_kernelhub(*ours);
  }
  return metadata;
}

ordered_json dependencies_json(const std::vector<Metadata::Dependency>& dependencies) {
  ordered_json items = ordered_json::array();
  for (const Metadata::Dependency& dependency : dependencies) {
    ordered_json item = {{"repo-id", dependency.repo.str()}};
    if (dependency.spec.version) {
      item["version"] = *dependency.spec.version;
    } else {
      item["revision"] = *dependency.spec.revision;
    }
    items.push_back(std::move(item));
  }
  return items;
}

ordered_json digest_json(const VariantDigest& digest) {
  ordered_json files = ordered_json::object();
  for (const auto& [path, value] : digest.files) files[path] = value.base64();
  return {{"algorithm", digest_algorithm_name(digest.algorithm)}, {"files", std::move(files)}};
}

void add_git(ordered_json& object, const std::optional<GitProvenance>& git) {
  if (!git) return;
  object["commit"] = git->commit;
  object["dirty"] = git->dirty;
}

ordered_json provenance_json(const Metadata& metadata) {
  ordered_json builder = {{"version", metadata.builder_version.value_or("")}};
  add_git(builder, metadata.builder_provenance);
  ordered_json provenance = {{"kernel-builder", std::move(builder)}};
  if (metadata.kernel_provenance) {
    provenance["kernel"] = ordered_json::object();
    add_git(provenance["kernel"], metadata.kernel_provenance);
  }
  return provenance;
}

ordered_json kernelhub_json(const KernelhubMetadata& ours) {
  ordered_json object = {{"schema", ours.schema}};
  if (!ours.repo_id.empty()) object["repo-id"] = ours.repo_id;
  if (!ours.variant.empty()) object["variant"] = ours.variant;
  if (!ours.source_hash.empty()) object["source-hash"] = ours.source_hash;
  if (!ours.toolchain.empty()) object["toolchain"] = ours.toolchain;
  if (!ours.layers_json.empty()) {
    object["layers"] = parse_untrusted_json(ours.layers_json, "kernelhub.layers");
  }
  return object;
}

}  // namespace

Metadata Metadata::parse(std::string_view bytes, std::string_view origin) {
  const nlohmann::json document = parse_untrusted_json(bytes, origin);
  return read_metadata(JsonObject(document, origin, "$", ErrorCode::kInvalidMetadata));
}

std::string Metadata::to_json() const {
  ordered_json root = {{"name", name}, {"id", id}, {"version", version}};
  if (kernels_minver) root["kernels-minver"] = *kernels_minver;
  root["license"] = license;
  if (upstream) root["upstream"] = *upstream;
  if (source) root["source"] = *source;
  root["python-depends"] = python_depends;
  root["kernel-depends"] = dependencies_json(kernel_depends);
  root["backend"] = {{"type", backend_name(backend)}};
  // A set, sorted as strings: "10.0" comes before "7.5".
  if (!archs.empty()) root["backend"]["archs"] = std::set<std::string>(archs.begin(), archs.end());
  if (digest) root["digest"] = digest_json(*digest);
  if (builder_version) root["provenance"] = provenance_json(*this);
  if (kernelhub) root["kernelhub"] = kernelhub_json(*kernelhub);
  return root.dump(2);
}

bool is_kernel_name(std::string_view name) noexcept {
  if (name.size() < 2 || !is_one_of(name.front(), kLower) || name.back() == '-') return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return is_one_of(c, kLower) || is_one_of(c, kDigits) || c == '-';
  });
}

bool is_package_id(std::string_view id) noexcept {
  const auto is_letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  if (id.empty() || id.size() > 128 || !is_letter(id.front())) return false;
  return std::all_of(id.begin(), id.end(),
                     [&](char c) { return is_letter(c) || is_one_of(c, kDigits); });
}

std::string python_name(std::string_view kernel_name) {
  std::string name(kernel_name);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

}  // namespace kernelhub
