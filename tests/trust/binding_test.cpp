// SPDX-License-Identifier: Apache-2.0
#include "expect_error.h"
#include "small_package.h"

#include "kernelhub/trust/verifier.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <string>

namespace kernelhub::trust {
namespace {

Origin origin_of(const char* repo, std::int64_t version, const char* variant) {
  Origin origin;
  origin.repo = RepoId::parse(repo);
  origin.requested = KernelSpec::of_version(version);
  origin.variant = variant;
  return origin;
}

/// Field that a binding error names; "" when the metadata is taken.
std::string mismatch(const Metadata& metadata, const Origin& origin) {
  try {
    parse_bound_metadata(metadata.to_json(), origin);
  } catch (const TrustError& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBindingMismatch);
    return nlohmann::json::parse(error.details()).at("field");
  }
  return "";
}

TEST(Binding, TakesMetadataOfTheRequestedPackage) {
  EXPECT_EQ(mismatch(small_metadata(), origin_of("org/relu", 1, "torch-cpu")), "");
  EXPECT_EQ(mismatch(small_metadata(), origin_of("org/RELU", 1, "torch-universal")), "");
  Metadata metadata = small_metadata();
  metadata.name = "layer-norm";
  EXPECT_EQ(mismatch(metadata, origin_of("org/Layer_Norm", 1, "torch-cpu")), "");
}

TEST(Binding, RefusesAnotherKernelVersionOrBackend) {
  EXPECT_EQ(mismatch(small_metadata(), origin_of("org/gelu", 1, "torch-cpu")), "name");
  EXPECT_EQ(mismatch(small_metadata(), origin_of("org/relu", 2, "torch-cpu")), "version");
  EXPECT_EQ(mismatch(small_metadata(), origin_of("org/relu", 1, "torch-cuda")), "backend.type");
  EXPECT_EQ(mismatch(small_metadata(), origin_of("org/relu", 1, "torch211-cu126-x86_64-linux")),
            "backend.type");
}

TEST(Binding, HoldsOurOwnNamesToTheRequest) {
  Metadata metadata = small_metadata();
  metadata.kernelhub = KernelhubMetadata{};
  metadata.kernelhub->repo_id = "org/relu";
  metadata.kernelhub->variant = "torch-cpu";
  EXPECT_EQ(mismatch(metadata, origin_of("org/relu", 1, "torch-cpu")), "");
  EXPECT_EQ(mismatch(metadata, origin_of("evil/relu", 1, "torch-cpu")), "kernelhub.repo-id");
  EXPECT_EQ(mismatch(metadata, origin_of("org/relu", 1, "torch-universal")), "kernelhub.variant");
}

TEST(Binding, AsksNothingOfALocalDirectoryButItsBackend) {
  Origin local;
  local.directory = "/k/torch-cpu";
  local.variant = "torch-cpu";
  Metadata metadata = small_metadata();
  metadata.name = "anything";
  EXPECT_EQ(mismatch(metadata, local), "");
  local.variant = "torch-cuda";
  EXPECT_EQ(mismatch(metadata, local), "backend.type");
}

TEST(Binding, ParsesStrictlyFirst) {
  EXPECT_EQ(code_of([] { parse_bound_metadata("{", origin_of("org/relu", 1, "torch-cpu")); }),
            ErrorCode::kInvalidJson);
  EXPECT_EQ(code_of([] { parse_bound_metadata("{}", origin_of("org/relu", 1, "torch-cpu")); }),
            ErrorCode::kInvalidMetadata);
}

}  // namespace
}  // namespace kernelhub::trust
