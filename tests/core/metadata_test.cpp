// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/metadata.h"

#include "expect_error.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <string>

namespace kernelhub {
namespace {

using nlohmann::json;

json minimal() {
  return json::parse(R"({"name":"relu","id":"_relu_cpu_1a2b3c4","version":1,"license":"MIT",
                         "python-depends":[],"backend":{"type":"cpu"}})");
}

std::optional<ErrorCode> parse_code(const json& document) {
  return code_of([&] { Metadata::parse(document.dump(), "test"); });
}

json with(const std::string& pointer, json value) {
  json document = minimal();
  document[json::json_pointer(pointer)] = std::move(value);
  return document;
}

// The byte form that the peer's own tool writes (package spec 3).
constexpr std::string_view kFull = R"({
  "name": "layer-norm",
  "id": "_layer_norm_cuda_0a1b2c3",
  "version": 2,
  "kernels-minver": "0.17.2",
  "license": "Apache-2.0 /é",
  "upstream": "https://github.com/org/up",
  "source": "git@github.com:org/src.git",
  "python-depends": [
    "einops"
  ],
  "kernel-depends": [
    {
      "repo-id": "org/a",
      "version": 1
    },
    {
      "repo-id": "org/b",
      "revision": "main"
    }
  ],
  "backend": {
    "type": "cuda",
    "archs": [
      "10.0",
      "12.1+PTX",
      "7.5"
    ]
  },
  "digest": {
    "algorithm": "sha256",
    "files": {
      "__init__.py": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
      "a/b-c": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
      "a/b/c": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    }
  },
  "provenance": {
    "kernel-builder": {
      "version": "0.17.0",
      "commit": "0123456789abcdef0123456789abcdef01234567",
      "dirty": false
    },
    "kernel": {
      "commit": "76543210fedcba9876543210fedcba9876543210",
      "dirty": true
    }
  },
  "kernelhub": {
    "schema": 1,
    "repo-id": "kernels-community/layer-norm",
    "variant": "torch211-cxx11-cu130-x86_64-linux",
    "source-hash": "abc",
    "toolchain": {
      "g++": "12.2",
      "nvcc": "13.0"
    },
    "layers": {
      "LayerNorm": {
        "op": "layer_norm"
      }
    }
  }
})";

TEST(Metadata, ReprintsTheCanonicalBytesUnchanged) {
  EXPECT_EQ(Metadata::parse(kFull, "test").to_json(), kFull);
}

TEST(Metadata, ReadsEveryField) {
  const Metadata metadata = Metadata::parse(kFull, "test");
  EXPECT_EQ(metadata.name, "layer-norm");
  EXPECT_EQ(metadata.version, 2);
  EXPECT_EQ(metadata.backend, BackendKind::kCuda);
  EXPECT_EQ(metadata.kernel_depends[1].spec.revision, "main");
  EXPECT_EQ(metadata.digest->files.size(), 3U);
  EXPECT_FALSE(metadata.builder_provenance->dirty);
  EXPECT_TRUE(metadata.kernel_provenance->dirty);
  EXPECT_TRUE(metadata.dirty());
  EXPECT_EQ(metadata.kernelhub->toolchain.at("nvcc"), "13.0");
  EXPECT_EQ(json::parse(metadata.kernelhub->layers_json)["LayerNorm"]["op"], "layer_norm");
}

TEST(Metadata, WritesArchsSortedAsStringsAndOnce) {
  Metadata metadata = Metadata::parse(minimal().dump(), "test");
  metadata.archs = {"9.0", "10.0", "9.0"};
  EXPECT_EQ(json::parse(metadata.to_json())["backend"]["archs"], (json{"10.0", "9.0"}));
}

TEST(Metadata, TakesWhatThePeerTakes) {
  EXPECT_FALSE(parse_code(minimal()));
  for (const json& document :
       {with("/unknown", 1), with("/backend/unknown", 1), with("/upstream", nullptr),
        with("/digest", nullptr), with("/kernels-minver", "0.17.2"), with("/license", ""),
        with("/source", "ssh://git@host/x"), with("/upstream", "git+https://h/x"),
        with("/provenance", json::parse(R"({"kernel-builder":{"version":"x"}})")),
        with("/provenance", json::parse(R"({"kernel-builder":{"version":"x","sha":
            "0123456789abcdef0123456789abcdef01234567","dirty":true}})")),
        with("/kernel-depends", json::array())}) {
    EXPECT_FALSE(parse_code(document)) << document.dump();
  }
}

TEST(Metadata, RefusesWrongFields) {
  for (const json& document :
       {with("/name", "R"),
        with("/name", "a"),
        with("/name", "a_b"),
        with("/name", "ab-"),
        with("/name", 1),
        with("/id", "json.x"),
        with("/id", "../../x"),
        with("/id", "1a"),
        with("/id", std::string(129, 'a')),
        with("/version", -1),
        with("/version", 1.0),
        with("/version", "1"),
        with("/kernels-minver", "0.17"),
        with("/kernels-minver", "a.b.c"),
        with("/kernels-minver", "1.2.3.4"),
        with("/license", nullptr),
        with("/upstream", "ftp://x"),
        with("/source", "file:///x"),
        with("/source", "nothing"),
        with("/python-depends", nullptr),
        with("/kernel-depends", nullptr),
        with("/python-depends", json{1}),
        with("/backend", "cpu"),
        with("/backend/type", "CUDA"),
        with("/backend/type", "npu"),
        with("/backend/type", "universal"),
        with("/backend/archs", "7.5"),
        with("/kernel-depends", json::parse(R"([{"repo-id":"a/b"}])")),
        with("/kernel-depends", json::parse(R"([{"repo-id":"a/b","version":1,"revision":"x"}])")),
        with("/kernel-depends", json::parse(R"([{"repo-id":"a/b","version":1,"extra":1}])")),
        with("/kernel-depends", json::parse(R"([{"repo-id":"../b","version":1}])")),
        with("/digest", json::parse(R"({"algorithm":"sha1","files":{}})")),
        with("/digest", json::parse(R"({"algorithm":"SHA256","files":{}})")),
        with("/digest", json::parse(R"({"algorithm":"sha256"})")),
        with("/digest", json::parse(R"({"algorithm":"sha256","files":{"a":"AAAA"}})")),
        with("/provenance", json::parse(R"({"kernel-builder":{"version":"x","dirty":true}})")),
        with("/provenance", json::parse(R"({"kernel-builder":{"version":"x","commit":"ab",
            "dirty":true}})")),
        with("/provenance", json::object()),
        with("/kernelhub", json::parse(R"({"schema":2})"))}) {
    EXPECT_EQ(parse_code(document), ErrorCode::kInvalidMetadata) << document.dump();
  }
  for (const char* key : {"name", "id", "version", "license", "python-depends", "backend"}) {
    json document = minimal();
    document.erase(key);
    EXPECT_EQ(parse_code(document), ErrorCode::kInvalidMetadata) << key;
  }
}

TEST(Metadata, RefusesADigestPathThatLeavesTheDirectory) {
  const auto digest = json::parse(
      R"({"algorithm":"sha256","files":
          {"../../etc/passwd":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}})");
  EXPECT_EQ(parse_code(with("/digest", digest)), ErrorCode::kUnsafePath);
}

TEST(Metadata, RefusesDuplicateKeysAndTrailingBytes) {
  const std::string text = minimal().dump();
  EXPECT_EQ(code_of([&] { Metadata::parse(text + "x", "t"); }), ErrorCode::kInvalidJson);
  EXPECT_FALSE(code_of([&] { Metadata::parse(text + "\n ", "t"); }));
  const std::string twice = R"({"name":"relu",)" + text.substr(1);
  EXPECT_EQ(code_of([&] { Metadata::parse(twice, "t"); }), ErrorCode::kInvalidJson);
}

TEST(KernelNames, FollowThePattern) {
  EXPECT_TRUE(is_kernel_name("a1"));
  EXPECT_TRUE(is_kernel_name("layer-norm"));
  EXPECT_FALSE(is_kernel_name("1a"));
  EXPECT_FALSE(is_kernel_name("layer_norm"));
  EXPECT_EQ(python_name("flash-attn-2"), "flash_attn_2");
  EXPECT_TRUE(is_package_id(std::string(128, 'a')));
  EXPECT_FALSE(is_package_id(""));
}

}  // namespace
}  // namespace kernelhub
