// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/backend.h"

#include "expect_error.h"

#include <gtest/gtest.h>

namespace kernelhub {
namespace {

TEST(Backend, NamesRoundTripForEveryKind) {
  for (const char* name : {"cpu", "cuda", "rocm", "xpu", "metal", "cann", "neuron", "tpu"}) {
    const auto kind = parse_backend_name(name);
    ASSERT_TRUE(kind) << name;
    EXPECT_EQ(backend_name(*kind), name);
  }
  for (const char* name : {"npu", "CUDA", "universal", ""}) EXPECT_FALSE(parse_backend_name(name));
}

TEST(Backend, ComputeNamesPutTheLastDigitInTheMinor) {
  struct Row {
    const char* text;
    BackendKind kind;
    MajorMinor version;
  };
  for (const Row& row :
       {Row{"cu130", BackendKind::kCuda, {13, 0}}, Row{"rocm71", BackendKind::kRocm, {7, 1}},
        Row{"xpu20253", BackendKind::kXpu, {2025, 3}}, Row{"cann85", BackendKind::kCann, {8, 5}},
        Row{"cu1210", BackendKind::kCuda, {121, 0}}, Row{"cu13", BackendKind::kCuda, {1, 3}}}) {
    const auto backend = Backend::parse_compute_name(row.text);
    ASSERT_TRUE(backend) << row.text;
    EXPECT_EQ(backend->kind, row.kind) << row.text;
    EXPECT_EQ(backend->version, row.version) << row.text;
    EXPECT_EQ(backend->compute_name(), row.text);
  }
  for (const char* text :
       {"cu3", "cuda", "cu", "cuda130", "cpu1", "cu13a", "", "cu-130", "cu99999999999999"}) {
    EXPECT_FALSE(Backend::parse_compute_name(text)) << text;
  }
}

TEST(Backend, RefusesAVersionThatANameCannotSay) {
  EXPECT_EQ(code_of([] {
              Backend{BackendKind::kCuda, MajorMinor{12, 10}}.compute_name();
            }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] {
              Backend{BackendKind::kCuda, {}}.compute_name();
            }),
            ErrorCode::kInvalidArgument);
}

TEST(MajorMinor, ReadsTheFirstTwoNumbers) {
  EXPECT_EQ(parse_major_minor("13.0"), (MajorMinor{13, 0}));
  EXPECT_EQ(parse_major_minor("13.0.88"), (MajorMinor{13, 0}));
  EXPECT_EQ(parse_major_minor("2.11.0+cu130"), (MajorMinor{2, 11}));
  for (const char* text : {"", "13", "13.", ".1", "a.b", "1.x"}) {
    EXPECT_FALSE(parse_major_minor(text)) << text;
  }
  EXPECT_LT((MajorMinor{2, 9}), (MajorMinor{2, 10}));
}

}  // namespace
}  // namespace kernelhub
