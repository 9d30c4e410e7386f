// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/json_access.h"

#include "expect_error.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <string>

namespace kernelhub {
namespace {

std::string nested(int depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(UntrustedJson, BuildsWhatTheLibraryWouldBuild) {
  const std::string text =
      R"({"a":[1,-2,3.5,true,null,"é\n",{"b":{}}],"c":[[],[{}]],"d":9223372036854775807})";
  EXPECT_EQ(parse_untrusted_json(text, "t"), nlohmann::json::parse(text));
  EXPECT_EQ(parse_untrusted_json("  7 \n", "t"), nlohmann::json(7));
}

TEST(UntrustedJson, RefusesHostileDocuments) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[1,]"), std::string("1 2"),
        std::string("{\"a\":1,\"a\":2}"), std::string("{\"b\":{\"a\":1,\"\\u0061\":2}}"),
        std::string("\"\\u0000\""), std::string("{\"\\u0000\":1}"), std::string("\"\xff\""),
        std::string("\"\xED\xA0\x80\""), std::string("\xEF\xBB\xBF{}"), std::string("1e999"),
        std::string("18446744073709551615"), std::string("-9223372036854775809"),
        std::string("NaN"), std::string("// c\n1"), std::string("[1]\0", 4), nested(33),
        nested(100'000)}) {
    EXPECT_EQ(code_of([&] { parse_untrusted_json(text, "t"); }), ErrorCode::kInvalidJson)
        << text.substr(0, 40);
  }
  EXPECT_NO_THROW(parse_untrusted_json(nested(32), "t"));
}

TEST(UntrustedJson, StopsAtTheGivenLimits) {
  EXPECT_EQ(code_of([] {
              parse_untrusted_json("[1,2,3]", "t", {1u << 20, 32, 3});
            }),
            ErrorCode::kInvalidJson);
  EXPECT_NO_THROW(parse_untrusted_json("[1,2,3]", "t", {1u << 20, 32, 4}));
  EXPECT_EQ(code_of([] {
              parse_untrusted_json("[1,2,3]", "t", {6, 32, 100});
            }),
            ErrorCode::kInvalidJson);
  EXPECT_NO_THROW(parse_untrusted_json("[1,2,3]", "t", {7, 32, 100}));
}

TEST(UntrustedJson, NamesOriginAndOffset) {
  const Error error = error_of([] { parse_untrusted_json(R"({"a":1,"a":2})", "file.json"); });
  EXPECT_EQ(nlohmann::json::parse(error.details()).at("origin"), "file.json");
  EXPECT_EQ(nlohmann::json::parse(error.details()).at("offset"), "10");
}

TEST(JsonObject, NamesThePathOfAWrongField) {
  const auto document = nlohmann::json::parse(R"({"a":{"b":[{"c":1},{"c":"x"}]}})");
  const JsonObject root(document, "f", "$", ErrorCode::kInvalidMetadata);
  const auto items = root.object("a").objects("b");
  EXPECT_EQ(items[0].unsigned_integer("c"), 1U);
  const Error error = error_of([&] { items[1].unsigned_integer("c"); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidMetadata);
  EXPECT_EQ(nlohmann::json::parse(error.details()).at("field"), "$.a.b[1].c");
}

TEST(JsonObject, TellsAbsentFromNullFromWrong) {
  const auto document = nlohmann::json::parse(
      R"({"null":null,"text":"t","number":3,"minus":-3,"real":1.0,"flag":true,"list":["a",1]})");
  const JsonObject root(document, "f", "$", ErrorCode::kInvalidJson);
  EXPECT_FALSE(root.has("null"));
  EXPECT_FALSE(root.optional_string("null"));
  EXPECT_FALSE(root.optional_unsigned("absent"));
  EXPECT_FALSE(root.optional_object("absent"));
  EXPECT_TRUE(root.strings("absent").empty());
  EXPECT_EQ(root.string("text"), "t");
  EXPECT_EQ(root.optional_boolean("flag"), true);
  for (const char* key : {"minus", "real", "text", "flag", "absent", "null"}) {
    EXPECT_EQ(code_of([&] { root.unsigned_integer(key); }), ErrorCode::kInvalidJson) << key;
  }
  EXPECT_EQ(code_of([&] { root.optional_string("number"); }), ErrorCode::kInvalidJson);
  EXPECT_EQ(code_of([&] { root.strings("list"); }), ErrorCode::kInvalidJson);
  EXPECT_EQ(code_of([&] { root.object("text"); }), ErrorCode::kInvalidJson);
  EXPECT_EQ(code_of([&] { root.objects("text"); }), ErrorCode::kInvalidJson);
  EXPECT_EQ(code_of([&] { root.only({"text", "number"}); }), ErrorCode::kInvalidJson);
}

}  // namespace
}  // namespace kernelhub
