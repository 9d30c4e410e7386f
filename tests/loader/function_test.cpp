// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/loader/function.h"

#include "expect_error.h"
#include "fixture_package.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <thread>

namespace kernelhub {
namespace {

struct Vector {
  explicit Vector(std::vector<float> content, DLDevice device = {kDLCPU, 0})
      : values(std::move(content)), shape{static_cast<std::int64_t>(values.size())} {
    tensor = {values.data(), device, 1, {kDLFloat, 32, 1}, shape, nullptr, 0};
  }
  Vector(const Vector&) = delete;
  Vector& operator=(const Vector&) = delete;
  std::vector<float> values;
  std::int64_t shape[1];
  DLTensor tensor;
};

const Kernel& scale() {
  static const FixturePackage files("_scale_cpu_v1");
  static const Kernel kernel = files.kernel();
  return kernel;
}

const Kernel& typed() {
  static const FixturePackage files("_typed_cpu_1");
  static const Kernel kernel = files.kernel();
  return kernel;
}

std::string kind_of(const Error& error) {
  return nlohmann::json::parse(error.details()).at("kind");
}

TEST(FunctionCall, ComputesOnTheCallersMemory) {
  Vector x({1, -2, 3}), out({0, 0, 0});
  EXPECT_TRUE(scale().function("scale")({&out.tensor, &x.tensor, 2.0}).is_none());
  EXPECT_EQ(out.values, (std::vector<float>{2, -4, 6}));
}

TEST(FunctionCall, ConvertsArgumentsAndResultsOfTypedFunctions) {
  EXPECT_DOUBLE_EQ(typed().function("add")({1.5, 2}).as_float(), 3.5);
  EXPECT_DOUBLE_EQ(typed().function("add")({1, true}).as_float(), 2.0);
  EXPECT_EQ(typed().function("length")({"four"}).as_int(), 4);
  EXPECT_FALSE(typed().function("is_given")({Value()}).as_bool());
  Vector x({1, 2, 3});
  EXPECT_TRUE(typed().function("is_given")({&x.tensor}).as_bool());
  EXPECT_EQ(code_of([] {
              typed().function("add")({1.5, 2}).as_int();
            }),
            ErrorCode::kInvalidArgument);
}

TEST(FunctionCall, ReportsTheKernelsErrorByKindAndMessage) {
  Vector x({1, 2}), out({0});
  const Error error = error_of([&] { scale().function("scale")({&out.tensor, &x.tensor, 1.0}); });
  EXPECT_EQ(error.code(), ErrorCode::kKernelFailed);
  EXPECT_EQ(kind_of(error), "ValueError");
  EXPECT_NE(std::string(error.what()).find("expected equal lengths"), std::string::npos);
}

TEST(FunctionCall, TurnsExceptionsOfTypedFunctionsIntoKinds) {
  const Function fail = typed().function("fail");
  EXPECT_EQ(kind_of(error_of([&] { fail({"value"}); })), "ValueError");
  EXPECT_EQ(kind_of(error_of([&] { fail({"named"}); })), "IndexError");
  EXPECT_EQ(kind_of(error_of([&] { fail({"x"}); })), "RuntimeError");
  EXPECT_EQ(kind_of(error_of([&] { fail({}); })), "TypeError");
  EXPECT_EQ(kind_of(error_of([&] { fail({1}); })), "TypeError");
}

TEST(FunctionCall, LeavesNoErrorForTheNextCall) {
  const Function fail = typed().function("fail");
  error_of([&] { fail({"value"}); });
  const Error silent = error_of([] { scale().function("silent")({}); });
  EXPECT_EQ(silent.code(), ErrorCode::kKernelFailed);
  EXPECT_NE(std::string(silent.what()).find("without an error message"), std::string::npos);
}

TEST(FunctionCall, KeepsErrorsOfThreadsApart) {
  const Function fail = typed().function("fail");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&fail, i] {
      for (int round = 0; round < 100; ++round) {
        const Error error = error_of([&] { fail({i % 2 == 0 ? "value" : "named"}); });
        EXPECT_EQ(kind_of(error), i % 2 == 0 ? "ValueError" : "IndexError");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(FunctionCall, CatchesExceptionsThatAPackageLetsOut) {
  static const FixturePackage files("_throwing");
  const Kernel kernel = files.kernel();
  const Error error = error_of([&] { kernel.function("throw_error")({}); });
  EXPECT_EQ(error.code(), ErrorCode::kKernelThrew);
  EXPECT_NE(std::string(error.what()).find("lost my way"), std::string::npos);
  EXPECT_EQ(code_of([&] { kernel.function("throw_int")({}); }), ErrorCode::kKernelThrew);
}

TEST(FunctionCall, LendsThePackageTheHostsServices) {
  Vector x({1, 2, 3.5});
  EXPECT_DOUBLE_EQ(typed().function("sum")({&x.tensor}).as_float(), 6.5);
}

TEST(FunctionCall, ReleasesObjectsThatItReturned) {
  const Function living = scale().function("living");
  EXPECT_EQ(living({}).as_int(), 0);
  {
    CallResult object = scale().function("make")({});
    EXPECT_EQ(object.raw().type, static_cast<int>(KH_SHAPE));
    const CallResult moved = std::move(object);
    EXPECT_TRUE(object.is_none());
    EXPECT_EQ(living({}).as_int(), 1);
  }
  EXPECT_EQ(living({}).as_int(), 0);
}

TEST(FunctionCall, GivesDeviceTensorsTheCallersStream) {
  Vector x({1}, {kDLCUDA, 0});
  int marker = 0;
  CallOptions options;
  options.stream = &marker;
  const CallResult result = scale().function("stream")({&x.tensor}, options);
  EXPECT_EQ(result.as_int(), reinterpret_cast<std::intptr_t>(&marker));
  EXPECT_EQ(scale().function("stream")({&x.tensor}).as_int(), 0);
}

TEST(FunctionCall, RefusesTensorsOnTwoDevices) {
  Vector x({1}, {kDLCUDA, 0}), y({1}, {kDLCUDA, 1}), host({1});
  const Function stream = scale().function("stream");
  EXPECT_EQ(code_of([&] { stream({&x.tensor, &y.tensor}); }), ErrorCode::kDeviceMismatch);
  EXPECT_EQ(code_of([&] { stream({&x.tensor, &host.tensor}); }), std::nullopt);
}

TEST(FunctionCall, NamesNearFunctionsForAMisspeltOne) {
  const Error error = error_of([] { scale().function("scael"); });
  EXPECT_EQ(error.code(), ErrorCode::kOpNotFound);
  EXPECT_NE(error.hint().find("scale"), std::string::npos) << error.hint();
}

TEST(FunctionCall, OutlivesItsKernel) {
  const FixturePackage files("_plain_3");
  const Function salt = [&] { return files.kernel().function("salt"); }();
  EXPECT_EQ(salt({}).as_int(), 3);
  EXPECT_EQ(salt.name(), "salt");
}

TEST(FunctionCall, RawCallsLeaveTheErrorToBeTaken) {
  const Function fail = typed().function("fail");
  const Value argument("value");
  kh_value result{};
  EXPECT_EQ(fail.call_raw(&argument.raw(), 1, &result), -1);
  EXPECT_EQ(kind_of(fail.take_error()), "ValueError");
}

}  // namespace
}  // namespace kernelhub
