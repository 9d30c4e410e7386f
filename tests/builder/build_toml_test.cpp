// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/builder/build_toml.h"

#include "expect_error.h"
#include "temp_directory.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace kernelhub::builder {
namespace {

constexpr const char* kGeneral =
    "[general]\nname = \"relu\"\nversion = 1\nedition = 5\nlicense = \"MIT\"\n"
    "backends = [\"cpu\", \"cuda\"]\n";
constexpr const char* kTorch = "[torch]\nsrc = [\"torch-ext/b.cpp\"]\n";
constexpr const char* kKernel =
    "[kernel.relu]\nbackend = \"cpu\"\ndepends = [\"torch\"]\nsrc = [\"relu.cpp\"]\n";

ParsedBuildToml read(const std::string& text) {
  const TempDirectory directory;
  directory.write("build.toml", text);
  return read_build_toml(directory.path());
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

const std::string kValid = std::string(kGeneral) + kTorch + kKernel;
const std::string kLayer = "[layers.Relu]\nforward = \"(Tensor x) -> Tensor\"\n";
const std::string kCall = "call = { op = \"relu\", args = [{ in = \"x\" }], result = 0 }\n";

TEST(BuildTomlTest, ReadsEveryPartOfAProject) {
  const BuildToml project =
      read(std::string(kGeneral) +
           "upstream = \"https://example.org/relu.git\"\nsource = \"git@example.org:relu\"\n"
           "python-depends = [\"einops\"]\n"
           "kernel-depends = [{ repo-id = \"org/other\", version = 2 }]\n"
           "[general.hub]\nrepo-id = \"org/relu\"\nbranch = \"next\"\n"
           "[general.cuda]\nminver = \"12.6\"\npython-depends = [\"nvidia-cutlass-dsl\"]\n"
           "[torch]\nsrc = [\"torch-ext/b.cpp\"]\nminver = \"2.9\"\npyext = [\"py\", \"json\"]\n"
           "stable-abi = { cuda = \"2.10\" }\n" +
           kKernel +
           "cxx-flags = [\"-mavx2\"]\n"
           "[kernel.relu_cuda]\nbackend = \"cuda\"\ndepends = []\nsrc = [\"relu.cu\"]\n"
           "cuda-capabilities = [\"9.0a\"]\ncuda-minver = \"12.8\"\n"
           "[layers.Relu]\nforward = \"(Tensor x) -> Tensor\"\ncall = { op = \"relu\", args = "
           "[{ in = \"x\" }], result = 0 }\n"
           "[layers.Relu.backward]\nop = \"relu_backward\"\nargs = [{ grad = 0 }]\n"
           "grads = { x = 0 }\n")
          .project;
  EXPECT_EQ(project.name, "relu");
  EXPECT_EQ(project.version, 1);
  EXPECT_EQ(project.backends, (std::vector{BackendKind::kCpu, BackendKind::kCuda}));
  EXPECT_EQ(project.source, "git@example.org:relu");
  EXPECT_EQ(project.kernel_depends.at(0).spec.version, 2);
  EXPECT_EQ(project.hub_repo->str(), "org/relu");
  EXPECT_EQ(project.hub_branch, "next");
  EXPECT_EQ(project.cuda_toolkits.min, (MajorMinor{12, 6}));
  EXPECT_EQ(project.backend_python_depends.at(BackendKind::kCuda).at(0), "nvidia-cutlass-dsl");
  EXPECT_EQ(project.torch->stable_abi.at(BackendKind::kCuda), (MajorMinor{2, 10}));
  EXPECT_EQ(project.torch->stable_abi.count(BackendKind::kCpu), 0u);
  EXPECT_EQ(project.torch->pyext, (std::vector<std::string>{"py", "json"}));
  ASSERT_EQ(project.components.size(), 2u);
  EXPECT_EQ(project.components[1].cuda_minver, (MajorMinor{12, 8}));
  EXPECT_NE(project.layers_json.find("\"forward\""), std::string::npos);
  EXPECT_NE(project.layers_json.find("\"relu_backward\""), std::string::npos);
}

TEST(BuildTomlTest, GivesAStableAbiStringToEveryBackend) {
  const BuildToml project =
      read(replaced(kValid, "[torch]\n", "[torch]\nstable-abi = \"2.10\"\n")).project;
  EXPECT_EQ(project.torch->stable_abi.size(), 2u);
}

struct Rejected {
  const char* name;
  std::string text;
  const char* message;  // part of what()
};

class BuildTomlRejectTest : public testing::TestWithParam<Rejected> {};

TEST_P(BuildTomlRejectTest, NamesTheKey) {
  const Error error = error_of([] { read(GetParam().text); });
  EXPECT_EQ(error.code(), ErrorCode::kBuildTomlInvalid) << error.what();
  EXPECT_NE(std::string(error.what()).find(GetParam().message), std::string::npos) << error.what();
}

INSTANTIATE_TEST_SUITE_P(
    Keys, BuildTomlRejectTest,
    testing::Values(
        Rejected{"name", replaced(kValid, "\"relu\"", "\"Re_lu\""), "general.name"},
        Rejected{"no_name", replaced(kValid, "name = \"relu\"\n", ""), "general.name: missing"},
        Rejected{"version", replaced(kValid, "version = 1", "version = -1"), "general.version"},
        Rejected{"version_text", replaced(kValid, "version = 1", "version = \"1\""),
                 "build.toml:3: general.version: expected an integer, found a string"},
        Rejected{"license", replaced(kValid, "license = \"MIT\"\n", ""), "general.license"},
        Rejected{"backend", replaced(kValid, "\"cuda\"]", "\"CUDA\"]"), "unknown backend \"CUDA\""},
        Rejected{"twice", replaced(kValid, "\"cuda\"]", "\"cpu\"]"), "listed twice"},
        Rejected{"no_backends", replaced(kValid, "[\"cpu\", \"cuda\"]", "[]"), "at least one"},
        Rejected{"unknown", replaced(kValid, "[torch]\n", "[torch]\ncxxflags = []\n"),
                 "torch.cxxflags: unknown key"},
        Rejected{"top", kValid + "[extra]\n", "extra: unknown key"},
        Rejected{"python", replaced(kValid, "[torch]", "python-depends = [\"numpy\"]\n[torch]"),
                 "unsupported dependency \"numpy\""},
        Rejected{"cuda_only",
                 replaced(kValid, "[torch]", "python-depends = [\"nvidia-cutlass-dsl\"]\n[torch]"),
                 "unsupported dependency"},
        Rejected{"url", replaced(kValid, "[torch]", "upstream = \"ftp://x/y\"\n[torch]"),
                 "git URL"},
        Rejected{"range",
                 replaced(kValid, "[torch]\n", "[torch]\nminver=\"2.9\"\nmaxver=\"2.8\"\n"),
                 "below minver"},
        Rejected{"float", replaced(kValid, "[torch]\n", "[torch]\nminver = 2.9\n"),
                 "torch.minver: expected a version string"},
        Rejected{"depends", replaced(kValid, "[\"torch\"]", "[\"boost\"]"), "unknown dependency"},
        Rejected{"cuda_key", replaced(kValid, "depends", "cuda-flags = []\ndepends"),
                 "kernel.relu.cuda-flags: unknown key"},
        Rejected{"tpu", replaced(kValid, "backend = \"cpu\"", "backend = \"tpu\""),
                 "no compiled components"},
        Rejected{"two", kValid + "[torch-noarch]\n", "stands beside another framework"},
        Rejected{"none", kGeneral, "no framework table"},
        Rejected{"depends_both",
                 replaced(kValid, "[torch]",
                          "kernel-depends = [{ repo-id = \"a/b\", version = 1, revision = "
                          "\"main\" }]\n[torch]"),
                 "kernel-depends[0]"},
        Rejected{"layer", kValid + "[layers.Relu]\nforward = \"(Tensor x) -> Tensor\"\n",
                 "layers.Relu.call: missing"},
        Rejected{"layer_result", kValid + kLayer + "call = { op = \"relu\", args = [] }\n",
                 "layers.Relu.call.result: missing"},
        Rejected{"backward_op",
                 kValid + kLayer + kCall + "backward = { args = [], grads = { x = 0 } }\n",
                 "layers.Relu.backward.op: missing"},
        Rejected{"backward_grads",
                 kValid + kLayer + kCall + "backward = { op = \"b\", args = [] }\n",
                 "layers.Relu.backward.grads: missing"},
        Rejected{"backward_key",
                 kValid + kLayer + kCall +
                     "backward = { op = \"b\", args = [], grads = { x = 0 }, saved = 1 }\n",
                 "layers.Relu.backward.saved: unknown key"},
        Rejected{
            "backward_call",
            kValid + kLayer + kCall +
                "backward = { op = \"b\", args = [], grads = { x = 0 }, call = { op = \"c\" } }\n",
            "layers.Relu.backward.call.args: missing"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(BuildTomlTest, ReportsAllErrorsOfAFileAtOnce) {
  const Error error = error_of(
      [] { read(replaced(replaced(kValid, "\"MIT\"", "3"), "[\"relu.cpp\"]", "\"relu.cpp\"")); });
  const std::string text = error.what();
  EXPECT_NE(text.find("2 error(s)"), std::string::npos) << text;
  EXPECT_NE(text.find("general.license"), std::string::npos) << text;
  EXPECT_NE(text.find("kernel.relu.src"), std::string::npos) << text;
}

TEST(BuildTomlTest, RefusesOldAndUnknownEditionsByName) {
  const auto message = [](const std::string& text) {
    const Error error = error_of([&] { read(text); });
    EXPECT_EQ(error.code(), ErrorCode::kUnsupportedEdition) << error.what();
    return std::string(error.what());
  };
  const std::string old = replaced(kValid, "edition = 5\n", "");
  EXPECT_NE(message(replaced(kValid, "edition = 5", "edition = 4")).find("4"), std::string::npos);
  EXPECT_NE(message(replaced(kValid, "edition = 5", "edition = \"5\"")).find("edition"),
            std::string::npos);
  EXPECT_NE(message(replaced(old, "[torch]\n", "[torch]\nuniversal = true\n")).find("edition 1"),
            std::string::npos);
  EXPECT_NE(message(replaced(old, "version", "cuda-minver = \"12.4\"\nversion")).find("edition 2"),
            std::string::npos);
  EXPECT_NE(message("[general]\nname = \"relu\"\n").find("edition 3"), std::string::npos);
}

TEST(BuildTomlTest, ReadsEditionFourWithANotice) {
  const ParsedBuildToml parsed = read(replaced(kValid, "edition = 5\n", ""));
  ASSERT_EQ(parsed.warnings.size(), 1u);
  EXPECT_NE(parsed.warnings[0].message.find("edition 4"), std::string::npos);
}

TEST(BuildTomlTest, WarnsOfFlagsAndCapabilitiesThatItCannotUse) {
  const ParsedBuildToml parsed =
      read(replaced(kValid, "depends", "cxx-flags = [\"-march=native\", \"-lm\"]\ndepends") +
           "[kernel.x]\nbackend = \"cuda\"\ndepends = []\nsrc = []\n"
           "cuda-capabilities = [\"nine\"]\n[kernel.y]\nbackend = \"rocm\"\ndepends = []\n"
           "src = []\n");
  EXPECT_EQ(parsed.warnings.size(), 4u);
  EXPECT_EQ(parsed.project.components.size(), 2u);
}

TEST(BuildTomlTest, NamesTheLineOfAFileThatIsNotToml) {
  const Error error = error_of([] { read("[general]\nname = \n"); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidToml);
  EXPECT_NE(std::string(error.what()).find("build.toml:2"), std::string::npos) << error.what();
  EXPECT_EQ(code_of([] { read_build_toml("/nonexistent/folder"); }), ErrorCode::kIo);
}

}  // namespace
}  // namespace kernelhub::builder
